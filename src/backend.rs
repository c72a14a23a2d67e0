//! What carries associations: the only places that know quinn, or channels.

pub(crate) mod in_process;
pub(crate) mod quic;
