"""Measures of generative models: arrays in, numbers out, never a model.

judge          the classifier whose logits and features the others use; classifier: its network
inception      ImageNet features, for comparison with papers alone
distances      Frechet and kernel distance, precision, recall, density, coverage of features
diversity      label agreement, variety within a class, classification accuracy score
fidelity       MSE, PSNR, SSIM of pairs; sharpness
morphometrics  thickness, slant, width and more of handwriting
style          the transfer scorecard: label reached, style kept
latents        KL by dimension, active units, distance from the prior, label leak
ranking        the learned-metric test: shifted or damaged, which is nearer?
bootstrap      intervals within a run and over seeds
"""
