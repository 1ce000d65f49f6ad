//! What a page does to a stream: append, set, delete.

use axum::extract::Path;
use axum::response::Redirect;
use http::Method;
use serde_json::value::RawValue;

use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::pieces::stream_path;
use crate::ui::visitor::Visit;

/// `POST /ui/streams/{name}/append`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn append(
    visit: Visit,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    let data = json("data", fields.needed("data")?)?;
    let metadata = match fields.text("metadata") {
        "" => "null",
        text => json("metadata", text)?,
    };
    // Numbers go as they were typed: nothing reads them on the way.
    let event_type = serde_json::Value::from(fields.needed("type")?);
    let event = format!("{{\"type\":{event_type},\"data\":{data},\"metadata\":{metadata}}}");
    let expected = segment(fields.needed("expected")?);
    let path = format!("/v1/streams/{}?expected={expected}", segment(&name));
    visit.api().send(Method::POST, &path, Sent::Json(event)).await?;
    Ok(Redirect::to(&format!("{}?done=appended", stream_path(&name))))
}

/// `POST /ui/streams/{name}/metadata`
///
/// # Errors
/// As [`append`].
pub async fn set_metadata(
    visit: Visit,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    let metadata = json("metadata", fields.needed("metadata")?)?.to_owned();
    let expected = segment(fields.needed("expected")?);
    let path = format!("/v1/streams/{}/metadata?expected={expected}", segment(&name));
    visit.api().send(Method::PUT, &path, Sent::Json(metadata)).await?;
    Ok(Redirect::to(&format!("{}?done=metadata", stream_path(&name))))
}

/// `POST /ui/streams/{name}/delete`: whoever does it types the name.
///
/// # Errors
/// As [`append`].
pub async fn delete(
    visit: Visit,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    if fields.text("confirm") != name {
        return Err(Trouble::bad("nothing was deleted: the name that was typed is another"));
    }
    let hard = fields.ticked("hard");
    let path = format!("/v1/streams/{}?hard={hard}", segment(&name));
    visit.api().send(Method::DELETE, &path, Sent::Nothing).await?;
    Ok(Redirect::to("/ui/streams?done=deleted"))
}

/// One value of JSON and nothing beside it.
fn json<'a>(field: &str, text: &'a str) -> Result<&'a str, Trouble> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Ok(raw.get()),
        Err(error) => Err(Trouble::bad(&format!("{field} is not JSON: {error}"))),
    }
}
