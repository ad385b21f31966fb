//! v3alpha1 separated rendering from deploying; v4beta1 finished it.

use crate::diagnostic::Diagnostic;
use crate::report::Report;
use crate::yaml::{Key, Map, Node, Span};

/// Patch paths that moved with their fields.
const MOVED_PATHS: [(&str, &str); 3] = [
    ("/deploy/kubectl/manifests", "/manifests/rawYaml"),
    ("/deploy/kustomize/paths", "/manifests/kustomize/paths"),
    (
        "/deploy/kustomize/buildArgs",
        "/manifests/kustomize/buildArgs",
    ),
];

/// `deploy.kubectl.manifests` and `deploy.kustomize` become `manifests`; what
/// kustomize shared with kubectl is merged into `deploy.kubectl`.
///
/// `deploy.helm` and `deploy.kpt` stay where they are: the reader refuses them.
pub(super) fn split_from_deployers(pipeline: &mut Map, report: &Report) {
    let Some(deploy) = pipeline.get_mut("deploy").and_then(Node::as_map_mut) else {
        return;
    };
    let raw = deploy
        .get_mut("kubectl")
        .and_then(Node::as_map_mut)
        .and_then(|kubectl| kubectl.remove("manifests"));
    let kustomize = deploy.remove("kustomize");
    let mut rendered = None;
    if let Some((key, node)) = kustomize {
        rendered = Some((key.clone(), take_kustomize(&key, node, deploy, report)));
    }
    let mut moved = Vec::new();
    if let Some((key, node)) = raw {
        moved.push((
            Key {
                name: "rawYaml".to_owned(),
                span: key.span,
            },
            node,
        ));
    }
    moved.extend(rendered);
    for (key, node) in moved {
        child(pipeline, "manifests", &key.span).insert(key, node);
    }
}

/// Takes `paths` and `buildArgs` out of `deploy.kustomize` and leaves the
/// rest to `deploy.kubectl`.
fn take_kustomize(key: &Key, node: Node, deploy: &mut Map, report: &Report) -> Node {
    let Node { content, span } = node;
    let mut rest = Node {
        content,
        span: span.clone(),
    };
    let mut taken = Node::map(&span);
    let Some(rest) = rest.as_map_mut() else {
        // `kustomize:` without a value chose the deployer with its defaults.
        default_path(&mut taken, &key.span);
        return taken;
    };
    for name in ["paths", "buildArgs"] {
        if let (Some((key, value)), Some(map)) = (rest.remove(name), taken.as_map_mut()) {
            map.insert(key, value);
        }
    }
    default_path(&mut taken, &key.span);
    if !rest.is_empty() {
        merge_into_kubectl(child(deploy, "kubectl", &key.span), rest, report);
    }
    taken
}

fn default_path(kustomize: &mut Node, span: &Span) {
    if let Some(map) = kustomize.as_map_mut()
        && map.get("paths").is_none_or(Node::is_null)
    {
        let key = Key {
            name: "paths".to_owned(),
            span: span.clone(),
        };
        map.insert(key, Node::list(span, vec![Node::string(span, ".")]));
    }
}

/// Lists are put together; of single values both sides must say the same.
fn merge_into_kubectl(target: &mut Map, from: &Map, report: &Report) {
    for (key, value) in from.iter() {
        let Some(known) = target.get_mut(&key.name) else {
            target.insert(key.clone(), value.clone());
            continue;
        };
        if let (Some(list), Some(items)) = (known.as_list_mut(), value.as_list()) {
            list.extend(items.iter().cloned());
        } else if let (Some(map), Some(other)) = (known.as_map_mut(), value.as_map()) {
            merge_into_kubectl(map, other, report);
        } else if known.to_value() != value.to_value() {
            let message = format!(
                "`{}` of deploy.kustomize differs from that of deploy.kubectl (line {})",
                key.name, known.span.line
            );
            let help = "both are deployed the same way since v3alpha1: make them equal, or split the file into two documents";
            report.error(Diagnostic::at(&value.span, message).help(help));
        }
    }
}

/// Patches of profiles follow the fields that moved.
pub(super) fn rewrite_patches(document: &mut Map) {
    let profiles = document.get_mut("profiles").and_then(Node::as_list_mut);
    for profile in profiles.into_iter().flatten() {
        let patches = profile
            .as_map_mut()
            .and_then(|profile| profile.get_mut("patches"))
            .and_then(Node::as_list_mut);
        for patch in patches.into_iter().flatten().filter_map(Node::as_map_mut) {
            for field in ["path", "from"] {
                if let Some(node) = patch.get_mut(field) {
                    rewrite_path(node);
                }
            }
        }
    }
}

fn rewrite_path(node: &mut Node) {
    let Some(mut path) = node.as_text().map(str::to_owned) else {
        return;
    };
    for (old, new) in MOVED_PATHS {
        path = path.replace(old, new);
    }
    *node = Node::string(&node.span, &path);
}

/// `deploy.kubectl.remoteManifests` (strings) become
/// `manifests.remoteManifests` (objects), read from `deploy.kubeContext`.
pub(super) fn move_remote_manifests(pipeline: &mut Map) {
    let Some(deploy) = pipeline.get_mut("deploy").and_then(Node::as_map_mut) else {
        return;
    };
    let context = deploy.get("kubeContext").cloned();
    let remote = deploy
        .get_mut("kubectl")
        .and_then(Node::as_map_mut)
        .and_then(|kubectl| kubectl.remove("remoteManifests"));
    let Some((key, mut list)) = remote else {
        return;
    };
    for item in list.as_list_mut().into_iter().flatten() {
        let mut object = Node::map(&item.span);
        if let Some(map) = object.as_map_mut() {
            let named = |name: &str| Key {
                name: name.to_owned(),
                span: item.span.clone(),
            };
            map.insert(named("manifest"), item.clone());
            if let Some(context) = &context {
                map.insert(named("kubeContext"), context.clone());
            }
        }
        *item = object;
    }
    child(pipeline, "manifests", &key.span).insert(key, list);
}

/// The mapping below `name`; it is made where there is none.
fn child<'a>(parent: &'a mut Map, name: &str, span: &Span) -> &'a mut Map {
    if parent.get(name).and_then(Node::as_map).is_none() {
        let key = Key {
            name: name.to_owned(),
            span: span.clone(),
        };
        parent.insert(key, Node::map(span));
    }
    parent
        .get_mut(name)
        .and_then(Node::as_map_mut)
        .expect("the mapping was inserted above where there was none")
}
