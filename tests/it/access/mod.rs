//! What each caller may do. Who a caller is, the entrance finds out; here it is told.
//!
//! ```text
//!   desk      requests with a caller of the test's choice
//!   matrix    every route and method × every kind of caller
//!   proofs    every route and method × every proof that must not be believed
//!   tokens    API tokens
//!   streams   lists, defaults, tenants, links, groups of consumers
//!   recorded  the audit log; answers that end with their caller's proof
//! ```

mod desk;
mod groups;
mod matrix;
mod proofs;
mod recorded;
mod streams;
mod tokens;
