//! (see apply/mod.rs)
