//! Rights that are missing, and the smallest Role that grants them.
