// The files of the suite; included by one program for each kind of store, which says in its module
// `storage` where records are kept. In alphabetical order.
mod atomic;
mod conflicts;
mod entities;
mod files;
mod harness;
mod lifecycle;
mod moody;
mod pull;
mod push;
mod refusals;
mod retention;
mod users;
