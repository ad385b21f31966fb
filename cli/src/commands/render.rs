//! `kiln render`: print the manifests that would be deployed.

use kiln_schemas::image::BuiltImage;

use super::once::once;
use super::{Call, Outcome, images, result};
use crate::args::{DigestSource, RenderCommand};
use crate::engine::{Choices, Engine, Setup, Shared};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, args: RenderCommand) -> Outcome {
    let choices = Choices::for_render(&args.project, &args.deploy)
        .with_default_repo(args.images.default_repo.clone());
    let engine = Setup::new(call, &args.project).engine(choices)?;
    let images = images_of(&engine, &args).await?;
    let cluster = engine.cluster_for_rendering().await?;
    let rendered = engine
        .render_all(&images, cluster.as_ref())
        .await
        .map_err(|failure| CommandError {
            kind: Kind::Deploy,
            failures: vec![failure],
        })?;
    let mut text = String::new();
    for (_, rendered) in rendered
        .iter()
        .filter(|(_, rendered)| !rendered.objects.is_empty())
    {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(
            &rendered
                .to_yaml()
                .map_err(|e| CommandError::from_error(Kind::Deploy, &e))?,
        );
    }
    match &args.file_output {
        Some(path) => result::write(path, &text),
        None => {
            result::print(&text);
            Ok(())
        }
    }
}

async fn images_of(engine: &Shared, args: &RenderCommand) -> Result<Vec<BuiltImage>, CommandError> {
    let given = args.images.build_artifacts.is_some()
        || !args.images.images.is_empty()
        || args.images.tag.is_some();
    match args.digest_source {
        _ if given => images::given(engine, &args.images).await,
        DigestSource::None => Ok(Vec::new()),
        DigestSource::Tag => by_tag(engine).await,
        DigestSource::Remote => built(engine).await,
    }
}

/// References as the tag policy gives them, without asking a registry for
/// digests.
async fn by_tag(engine: &Engine) -> Result<Vec<BuiltImage>, CommandError> {
    engine.scan(None).await.references()
}

/// Builds what is not in the registry.
async fn built(engine: &Shared) -> Result<Vec<BuiltImage>, CommandError> {
    let interrupted =
        interrupt::watch().map_err(|e| CommandError::from_error(Kind::General, &e))?;
    let inputs = engine.scan(None).await;
    once(engine, inputs, &interrupted).await
}
