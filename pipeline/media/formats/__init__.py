"""Special treatment of single media formats: delays of encoders, and files with several recordings."""
