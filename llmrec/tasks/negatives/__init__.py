"""Where the rejected items of a preference come from, one file a technique."""
