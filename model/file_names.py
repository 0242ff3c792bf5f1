"""Names of the files by which a folder is known as a run, a cross-validation or an exported network."""

RUN = "run.json"  # file in a run folder
RUN_WEIGHTS = "best.safetensors"
CROSSVAL = "crossval.json"  # file in the folder of a cross-validation
EXPORT = "deiii.json"  # file in an exported folder
EXPORT_WEIGHTS = "model.safetensors"
