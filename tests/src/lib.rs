//! Nothing is here: the tests of this package are one integration binary,
//! `tests/it`, that drives `kiln` from outside.
