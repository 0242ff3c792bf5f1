"""Several networks that predict as one: their outputs averaged, and the folder that holds them all."""
