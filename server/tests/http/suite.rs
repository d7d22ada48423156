// The files of the suite; included by one program for each kind of store, which says in its module
// `storage` where records are kept. In alphabetical order.
mod atomic;
mod conflicts;
mod described;
mod edge;
mod entities;
mod files;
mod harness;
mod hostile;
mod lifecycle;
mod media;
mod moody;
mod pull;
mod push;
mod refusals;
mod retention;
mod stream;
mod users;
