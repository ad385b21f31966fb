//! Images that were built before: from a file of `kiln build`, from the
//! command line, or by a tag.

use kiln_schemas::build_artifacts;
use kiln_schemas::image::{BuiltImage, ImageDigest};

use super::input;
use crate::args::ImagesArgs;
use crate::engine::Engine;
use crate::error::{CommandError, Kind};

/// One built image for each artifact of the project. A file wins over images
/// by hand; an artifact without either is an error that names it.
pub(super) async fn given(
    engine: &Engine,
    args: &ImagesArgs,
) -> Result<Vec<BuiltImage>, CommandError> {
    let mut known: Vec<(String, String)> = Vec::new();
    for pair in &args.images {
        known.push(by_hand(pair)?);
    }
    if let Some(path) = &args.build_artifacts {
        let text = input::read(path)?;
        let built = build_artifacts::read(&text).map_err(|error| {
            CommandError::from_error(Kind::Usage, &error).hint(format!(
                "{} is not what kiln build -q prints",
                path.display()
            ))
        })?;
        for image in built {
            known.retain(|(name, _)| *name != image.name);
            known.push((image.name.clone(), image.pinned()));
        }
    }
    let mut images = Vec::new();
    for (name, _) in engine.images() {
        let reference = match known.iter().find(|(known, _)| *known == name) {
            Some((_, reference)) => engine.rewritten(reference)?,
            None => match &args.tag {
                Some(tag) => format!("{}:{tag}", engine.repository(&name).await?),
                None => {
                    return Err(CommandError::new(
                        Kind::Usage,
                        format!("no image is given for {name}"),
                    )
                    .hint("pipe `kiln build -q` into `kiln deploy -a -`")
                    .hint(format!("or name it: --images {name}=REFERENCE")));
                }
            },
        };
        images.push(image(name, &reference));
    }
    Ok(images)
}

fn by_hand(pair: &str) -> Result<(String, String), CommandError> {
    match pair.split_once('=') {
        Some((name, reference)) if !name.is_empty() && !reference.is_empty() => {
            Ok((name.to_owned(), reference.to_owned()))
        }
        // As in skaffold a reference alone names the image by itself.
        None if !pair.is_empty() => Ok((without_tag(pair).to_owned(), pair.to_owned())),
        _ => Err(CommandError::new(
            Kind::Usage,
            format!("`{pair}` is not NAME=REFERENCE"),
        )),
    }
}

/// The reference without digest and tag.
fn without_tag(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

fn image(name: String, reference: &str) -> BuiltImage {
    let (reference, digest) = match reference.split_once('@') {
        Some((reference, digest)) => (reference, ImageDigest::parse(digest).ok()),
        None => (reference, None),
    };
    BuiltImage {
        name,
        reference: reference.to_owned(),
        digest,
        placed: Default::default(),
        workdir: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_by_hand_may_leave_out_the_name() {
        let full = by_hand("app=r.example:5000/team/app:v1").unwrap();
        assert_eq!(full, ("app".into(), "r.example:5000/team/app:v1".into()));
        let alone = by_hand("r.example:5000/team/app:v1").unwrap();
        assert_eq!(
            alone,
            (
                "r.example:5000/team/app".into(),
                "r.example:5000/team/app:v1".into()
            )
        );
        assert!(by_hand("=x").is_err());
    }
}
