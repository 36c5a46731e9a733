"""What models cost and do: parameters, floating-point operations, and the paper's figures to put beside them."""
