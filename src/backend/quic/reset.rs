//! The key of stateless resets.

use aws_lc_rs::hmac;
use quinn_proto::crypto::{CryptoError, HmacKey};

/// aws-lc's HMAC for quinn, which knows it by itself only while no other crate of a build asks quinn for
/// ring.
pub(super) struct ResetKey(hmac::Key);

impl ResetKey {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        hmac::HMAC_SHA256.digest_algorithm().output_len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, data, signature).map_err(|_| CryptoError)
    }
}
