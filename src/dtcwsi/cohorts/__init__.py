"""The paper's cohorts: what their archives' tables and slide names say, as labels to train on."""
