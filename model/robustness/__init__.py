"""How much noise, blur, occlusion and compression of test recordings a trained network bears."""
