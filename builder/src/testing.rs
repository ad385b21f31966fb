//! Small values for this crate's unit tests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kiln_schemas::model::{
    Artifact, ClusterBuild, ExecutorChoice, ExecutorFlags, HookPair, Template, UploadLimits,
};

use crate::order::RenderTemplate;

/// An artifact with every default.
pub(crate) fn artifact(image: &str) -> Artifact {
    Artifact {
        image: image.into(),
        context: PathBuf::from("/project"),
        context_sub_path: None,
        dockerfile: PathBuf::from("Dockerfile"),
        target: None,
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        requires: Vec::new(),
        hooks: HookPair::default(),
        sync: None,
        platforms: Vec::new(),
        watch_ignore: Vec::new(),
        watch_extra: Vec::new(),
        executor: ExecutorChoice::default(),
        flags: ExecutorFlags::default(),
        cache: None,
        env: Vec::new(),
        volume_mounts: Vec::new(),
        upload: UploadLimits::default(),
    }
}

/// A cluster section with skaffold's defaults.
pub(crate) fn cluster() -> ClusterBuild {
    ClusterBuild {
        namespace: None,
        timeout: Duration::from_mins(20),
        concurrency: 0,
        http_proxy: None,
        https_proxy: None,
        pull_secret: None,
        docker_config: None,
        volumes: Vec::new(),
        resources: None,
        service_account: None,
        tolerations: Vec::new(),
        node_selector: BTreeMap::new(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        run_as_user: None,
        pod_template: None,
    }
}

/// Replaces `{{.NAME}}` by the variable of that name, and knows nothing else.
pub(crate) fn engine() -> impl RenderTemplate {
    |template: &Template, vars: &BTreeMap<String, String>| {
        let mut text = template.0.clone();
        for (name, value) in vars {
            text = text.replace(&format!("{{{{.{name}}}}}"), value);
        }
        Ok(text)
    }
}
