"""Where everything lies in a run folder: every file name, for writers and readers alike."""

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
RECORDS = "records"
CHECKPOINTS = "checkpoints"
TRAINING = "training"
GALLERY = "gallery"
GALLERY_PICTURES = "gallery.parquet"
REGIONS = "regions.npz"
REPORT = "report.html"
COMPOSITION_RATES = "composition.json"
# Rows behind those rates, apart from the records of single models.
COMPOSITION_RECORDS = "compositions"
