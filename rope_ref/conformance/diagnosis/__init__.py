"""Explaining what does not hold: from wrong answers to the bug behind them."""
