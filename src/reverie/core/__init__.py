"""The contract that every other part of Reverie is written against."""
