//! How a layer comes to be, and how one is read.
//!
//! A layer is a [`Delta`](delta::Delta): what each path becomes. Deltas come from a `COPY`, from
//! an overlay's upper directory, or from the tar of a base image, and go into a tar, a directory,
//! or a [`View`](view::View) of all layers of a stage.
//!
//! | question | module |
//! |---|---|
//! | what a layer says about a path | [`delta`] |
//! | a delta becomes a tar | [`tar`] |
//! | a tar becomes a blob: digests, compression | [`blob`], [`gzip`] |
//! | a blob becomes a tar | [`gunzip`] |
//! | a delta or a tar becomes a directory, whatever it contains | [`dir`], [`unpack`] |
//! | inflating on one core while another writes | [`ahead`] |
//! | a tar becomes a delta without its files | [`index`] |
//! | what a tar may cost | [`bounds`] |
//! | files of a tar that have holes | [`sparse`] |
//! | what changed in an overlay's upper directory | [`upper`] |
//! | which directories a layer does not name, and what they are then | [`parents`] |
//! | what a path means over all layers of a stage | [`view`] |

pub mod ahead;
pub mod blob;
pub mod bounds;
pub mod delta;
pub mod dir;
mod further;
pub mod gunzip;
pub mod gzip;
pub mod index;
mod merge;
pub mod owners;
pub mod parents;
pub mod settle;
pub mod sparse;
pub mod tar;
pub mod unpack;
pub mod upper;
pub mod view;
