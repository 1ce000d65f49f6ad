//! How a receiver knows that a message is ours, and is not an old one that somebody repeats.

use aws_lc_rs::hmac;

/// The header.
pub const SIGNATURE_HEADER: &str = "daybook-signature";

/// The header's value for `body`, sent at `seconds` since 1970.
#[must_use]
pub fn sign(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut signing = hmac::Context::with_key(&key);
    signing.update(format!("{seconds}.").as_bytes());
    signing.update(body);
    let mut value = format!("t={seconds},v1=");
    for byte in signing.sign().as_ref() {
        value.push_str(&format!("{byte:02x}"));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '%s' '1763800000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected =
            "t=1763800000,v1=6d900f5dd1081ef79e10affe403f13da16e67f16f97150c01437459296f49301";
        assert_eq!(sign(b"key", 1_763_800_000, b"{\"a\":1}"), expected);
    }

    #[test]
    fn it_depends_on_secret_time_and_body() {
        let one = sign(b"key", 1, b"body");
        for other in [sign(b"kex", 1, b"body"), sign(b"key", 2, b"body"), sign(b"key", 1, b"bodx")]
        {
            assert_ne!(one, other);
        }
    }
}
