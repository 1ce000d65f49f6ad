//! The names of secrets: `vault:MOUNT/PATH#FIELD`.

use std::fmt;

/// How such a name begins.
const PREFIX: &str = "vault:";
/// Bytes of a name: far more than anybody types.
const NAME_SIZE_MAX: usize = 512;

/// Names a field of a secret in an engine of key and value, version 2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName {
    mount: String,
    path: String,
    field: String,
}

impl SecretName {
    /// Reads `text` if it is meant to be such a name; what else it is, is not for us to say.
    pub fn meant(text: &str) -> Option<Result<SecretName, String>> {
        text.strip_prefix(PREFIX).map(SecretName::parse)
    }

    fn parse(text: &str) -> Result<SecretName, String> {
        let form = "give vault:MOUNT/PATH#FIELD, or vault:MOUNT//PATH#FIELD for a mount that has / \
                    in its name";
        if text.len() > NAME_SIZE_MAX {
            return Err(format!("it is longer than {NAME_SIZE_MAX} bytes"));
        }
        let (place, field) = text.split_once('#').ok_or_else(|| form.to_owned())?;
        let parts = place.split_once("//").or_else(|| place.split_once('/'));
        let (mount, path) = parts.ok_or_else(|| form.to_owned())?;
        check_path(mount)?;
        check_path(path)?;
        if field.is_empty() || field.contains('#') {
            return Err(form.to_owned());
        }
        Ok(SecretName { mount: mount.into(), path: path.into(), field: field.into() })
    }

    /// The path to ask for it.
    #[must_use]
    pub fn url_path(&self) -> String {
        format!("{}/data/{}", self.mount, self.path)
    }

    /// The field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.mount.contains('/') { "//" } else { "/" };
        write!(f, "{PREFIX}{}{between}{}#{}", self.mount, self.path, self.field)
    }
}

/// Whether `path` can stand in a URL as it is, and leads nowhere else.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:+=~/".contains(c);
    if let Some(c) = path.chars().find(|c| !plain(*c)) {
        return Err(format!("'{path}' has {c:?}; letters, digits and -_.@:+=~/ are understood"));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("'{path}' has a part that is empty or only dots"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_mount_path_and_field() {
        for (text, path, field) in [
            ("vault:secret/daybook#key", "secret/data/daybook", "key"),
            ("vault:secret/a/b-c_d#tls.key", "secret/data/a/b-c_d", "tls.key"),
            ("vault:kv/payments//daybook/tls#key", "kv/payments/data/daybook/tls", "key"),
        ] {
            let name = SecretName::meant(text).expect("meant").expect(text);
            assert_eq!((name.url_path().as_str(), name.field()), (path, field), "{text}");
            assert_eq!(name.to_string(), text);
        }
        for text in ["key.pem", "./vault:x", "/vault/key", "VAULT:secret/a#b", ""] {
            assert_eq!(SecretName::meant(text), None, "{text}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for text in [
            "vault:",
            "vault:secret",
            "vault:secret/daybook",
            "vault:secret/daybook#",
            "vault:secret#key",
            "vault:/daybook#key",
            "vault:secret/#key",
            "vault:secret/../sys/seal#key",
            "vault:secret/a?version=1#key",
            "vault:secret/a%2e#key",
            "vault:secret/a b#key",
            "vault:secret/a#b#c",
        ] {
            assert!(matches!(SecretName::meant(text), Some(Err(_))), "{text}");
        }
    }
}
