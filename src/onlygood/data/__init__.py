"""From what the user has to what a method sees; the one owner of decoding and preprocessing."""
