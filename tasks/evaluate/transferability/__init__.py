"""How well frozen features suit labels, told without training: for choosing a backbone."""
