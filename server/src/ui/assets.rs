//! What pages load: styles, scripts and the icon, compiled in.
//!
//! A link names what it is to: when a file changes, so does its link, and browsers keep each for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header;

use super::api::Trouble;

/// Hexadecimal digits of a file's hash in its link.
const HASH_LEN: usize = 12;

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    Asset { name: "style.css", kind: STYLE, text: include_str!("assets/style.css") },
    Asset { name: "theme.js", kind: SCRIPT, text: include_str!("assets/theme.js") },
    Asset { name: "app.js", kind: SCRIPT, text: include_str!("assets/app.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") },
];

static LINKS: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
    let link = |asset: &Asset| {
        let hash = blake3::hash(asset.text.as_bytes()).to_hex();
        (asset.name, format!("/ui/assets/{}?v={}", asset.name, &hash[..HASH_LEN]))
    };
    ASSETS.iter().map(link).collect()
});

/// The link to a file.
///
/// # Panics
/// If there is none of that name: names are ours.
#[must_use]
pub fn link(name: &str) -> &'static str {
    let found = LINKS.iter().find(|(found, _)| *found == name);
    found.map(|(_, link)| link.as_str()).expect("a file of ours")
}

/// `GET /ui/assets/{name}`
///
/// # Errors
/// If there is no such file.
pub async fn get(Path(name): Path<String>) -> Result<Response, Trouble> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Trouble::not_found("there is no such file"))?;
    let head = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((head, asset.text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_load_is_small() {
        let all: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(all < 100 * 1024, "{all} bytes");
        assert!(ASSETS.iter().all(|asset| link(asset.name).contains("?v=")));
    }
}
