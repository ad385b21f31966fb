//! Understands the Dockerfile language and `.dockerignore`: text in, typed values and positions
//! out.
//!
//! Nothing here touches a file, the network or the environment, and nothing decides what a build
//! does: planning and running belong to `kiln-executor`. The language is that of dockerfile 1.26
//! as BuildKit 0.33.1 has it; where the reference manual and BuildKit disagree, BuildKit wins.
//!
//! | question | module |
//! |---|---|
//! | what does the text say | [`mod@parse`] gives a [`Dockerfile`] of typed [`Instruction`]s |
//! | what does a word mean | [`expand`], with the variables of a [`scope`] |
//! | which stages does a target need | [`graph`] |
//! | what does `RUN --mount` ask for | [`mount`] |
//! | which files stay out of the context | [`ignore`] |
//! | which paths does a `COPY` source match | [`glob`] |
//! | what would a reviewer remark on | [`lint`] |

pub mod duration;
pub mod expand;
pub mod glob;
pub mod graph;
pub mod healthcheck;
pub mod ignore;
pub mod instruction;
pub mod lint;
pub mod mount;
pub mod parse;
pub mod platform;
pub mod port;
pub mod position;
pub mod scope;
mod suggest;

pub use expand::ExpandError;
pub use instruction::{Dockerfile, Instruction, Stage};
pub use parse::{ParseError, parse, parse_onbuild};
pub use position::{Located, Position};
