/*
 * Bring what `dtcwsi heatmap` or `dtcwsi explain` wrote about the open slide into QuPath (0.5 or later).
 *
 * Automate > Script editor > open this file > set `folder` > Run. Written against QuPath's own sources:
 * importObjectsFromFile (GeoJSON, plain or .gz), measurement maps (getMeasurements), BufferedImageOverlay.
 */
import qupath.lib.gui.viewer.overlays.BufferedImageOverlay
import qupath.lib.regions.ImageRegion
import javax.imageio.ImageIO

def folder = '/path/to/heatmaps'   // the --out folder
def showOverlay = true             // the heatmap as a layer over the slide, from ID.overlay.tif
def pixelLevel0 = 16               // level-0 pixels a pixel of the overlay, as in its ImageDescription

def server = getCurrentServer()
def id = new File(server.getURIs().iterator().next().getPath()).getName().replaceFirst(/\.[^.]+$/, '')
def first = { List names -> names.collect { new File(folder, it) }.find { it.exists() } }

// Objects are placed in pixels of the whole file. QuPath crops some slides (MRXS, for one) to their bounding box.
if (server.getPath().contains('[x=') && !server.getPath().contains('--no-crop'))
    println 'This slide is cropped to its bounding box: switch off Preferences > OpenSlide > Crop to OpenSlide bounds and open it again, or all is shifted.'

// 1. Patches (detections) and outlines (annotations: tissue, the largest merge groups)
def patches = first(["${id}.geojson", "${id}.geojson.gz", 'patches.geojson', 'patches.geojson.gz'])
def outlines = first(["${id}.outlines.geojson", "${id}.outlines.geojson.gz", 'outlines.geojson', 'outlines.geojson.gz'])
if (patches == null)
    throw new FileNotFoundException("no patches of '${id}' in ${folder}; set `folder` to the --out folder of dtcwsi")
[outlines, patches].findAll { it != null }.each { importObjectsFromFile(it.getPath()) }

// 2. What the measurements say
def detections = getDetectionObjects().findAll { it.getMeasurements().containsKey('attention percentile') }
def top = detections.findAll { (it.getMeasurements().get('attention percentile') as double) >= 90 }
def share = top.sum(0.0d) { it.getMeasurements().get('attention') as double }
println "${detections.size()} patches; the ${top.size()} of the top tenth hold ${String.format('%.1f', 100 * share)} % of attention"
detections.countBy { it.getPathClass()?.toString() ?: 'no class' }.each { name, count -> println "  ${name}: ${count}" }

// 3. The heatmap over the slide; View > Show pixel classification switches it, the slider beside it fades it
def tiff = new File(folder, "${id}.overlay.tif")
if (showOverlay && tiff.exists()) {
    def image = ImageIO.read(tiff)
    def region = ImageRegion.createInstance(
        0, 0, image.getWidth() * pixelLevel0, image.getHeight() * pixelLevel0, 0, 0)
    def viewer = getCurrentViewer()
    viewer.setCustomPixelLayerOverlay(new BufferedImageOverlay(viewer.getOverlayOptions(), region, image))
}
fireHierarchyUpdate()
println 'Measure > Show measurement maps colours the patches by attention, importance or mass.'
