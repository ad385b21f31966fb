//! Kustomizations that are refused, with file and field.

use kiln_kustomize::{Build, Kustomizer, LARGEST_FILE, MemoryFiles, Refused};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: value}\n";

fn build(files: &[(&str, &str)]) -> Result<Build, Refused> {
    let mut memory = MemoryFiles::default();
    for (path, text) in files {
        memory.insert(path, *text);
    }
    Kustomizer::new(&memory).build("/app")
}

/// Kustomizations beside a `map.yaml`, and what the error has to say.
#[rustfmt::skip]
const BROKEN: &[(&str, &[&str])] = &[
    ("resources: [gone.yaml]", &["resources[0]", "gone.yaml"]),
    ("resources: [map.yaml, map.yaml]", &["resources[1]", "ConfigMap.v1.[noGrp]/a.[noNs]"]),
    ("resources: [.]", &["resources[0]", "cycle"]),
    ("resources: [..]", &["resources[0]", "cycle"]),
    ("resources: [../outside.yaml]", &["resources[0]", "not in or below /app"]),
    ("resources: ['']", &["resources[0]", "empty"]),
    ("resources: map.yaml", &["`resources` is a string"]),
    ("resources: [{a: b}]", &["`resources[0]` is a mapping"]),
    ("resources: [map.yaml]\nnonsense: 1", &["`nonsense`"]),
    ("resources: [map.yaml]\ncommonLabels: {a: true}", &["`commonLabels.a` is a boolean"]),
    ("resources: [map.yaml]\nnamePrefix: 1", &["`namePrefix` is a number"]),
    ("resources: [map.yaml]\nkind: Deployment", &["`Deployment`"]),
    ("resources: [map.yaml]\napiVersion: v9", &["`v9`"]),
    ("namePrefix: ''", &["empty"]),
    ("- a", &["a mapping is expected"]),
    ("resources: [", &["line 1"]),
    ("components: [map.yaml]", &["components[0]", "not a folder"]),
    ("components: [gone]", &["components[0]", "gone"]),
    ("resources: [map.yaml]\npatches: [{path: gone.yaml}]", &["patches[0]", "path", "gone.yaml"]),
    ("resources: [map.yaml]\npatches: [{path: ../outside.yaml}]", &["patches[0]", "not in or below"]),
    ("resources: [map.yaml]\npatches: [{}]", &["patches[0]", "either `path` or a patch"]),
    ("resources: [map.yaml]\npatches: [{patch: words}]", &["patches[0]", "neither"]),
    ("resources: [map.yaml]\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}'}]", &["patches[0]", "no resource matches", "/b."]),
    ("resources: [map.yaml]\npatches: [{patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]'}]", &["patches[0]", "target"]),
    ("resources: [map.yaml]\npatches: [{patch: '[{\"op\": \"remove\", \"path\": \"/none\"}]', target: {kind: ConfigMap}}]", &["patches[0]", "/none"]),
    ("resources: [map.yaml]\npatches: [{patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]', target: {name: '('}}]", &["patches[0]", "regular expression"]),
    ("resources: [map.yaml]\npatches: [{patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]', target: {labelSelector: 'a b'}}]", &["patches[0]", "label selector"]),
    ("resources: [map.yaml]\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: [x]}'}]", &["patches[0]", "a mapping"]),
    ("resources: [map.yaml]\npatchesStrategicMerge: [gone.yaml]", &["patchesStrategicMerge[0]", "gone.yaml"]),
    ("resources: [map.yaml]\npatchesJson6902: [{patch: '[]'}]", &["patchesJson6902[0]", "target"]),
    ("resources: [map.yaml]\nconfigMapGenerator: [{name: a, behavior: create}]", &["configMapGenerator[0]", "exists"]),
    ("configMapGenerator: [{name: a, behavior: merge}]", &["configMapGenerator[0]", "does not exist"]),
    ("configMapGenerator: [{literals: [a=b]}]", &["configMapGenerator[0]", "name"]),
    ("configMapGenerator: [{name: a, literals: [a]}]", &["configMapGenerator[0]", "literals[0]", "key=value"]),
    ("configMapGenerator: [{name: a, literals: [a=1, a=2]}]", &["configMapGenerator[0]", "`a` twice"]),
    ("secretGenerator: [{name: a, files: [gone]}]", &["secretGenerator[0]", "files[0]", "gone"]),
    ("secretGenerator: [{name: a, envs: [../outside.yaml]}]", &["secretGenerator[0]", "envs[0]", "not in or below"]),
    ("resources: [map.yaml]\nreplicas: [{name: gone, count: 1}]", &["replicas[0]", "gone"]),
    ("resources: [map.yaml]\nreplicas: [{name: a, count: many}]", &["`replicas[0].count` is a string"]),
    ("resources: [map.yaml]\nimages: [{name: '('}]", &["images[0]", "regular expression"]),
    ("resources: [map.yaml]\nreplacements: [{source: {kind: Gone}, targets: [{select: {kind: ConfigMap}}]}]", &["replacements", "nothing matches"]),
    ("resources: [map.yaml]\nreplacements: [{sourceValue: x, targets: [{select: {kind: ConfigMap}, fieldPaths: [data.gone]}]}]", &["replacements", "data.gone"]),
    ("resources: [map.yaml]\nvars: [{name: V, objref: {kind: Gone, name: g}}]", &["V", "Gone"]),
    ("resources: [map.yaml]\nconfigurations: [gone.yaml]", &["configurations[0]", "gone.yaml"]),
    ("resources: [map.yaml]\ncrds: [gone.yaml]", &["crds[0]", "gone.yaml"]),
    ("resources: [map.yaml]\nopenapi: {version: v1}", &["openapi", "`v1`"]),
    ("resources: [map.yaml]\nsortOptions: {order: random}", &["sortOptions.order", "random"]),
    ("resources: [map.yaml]\ntransformers: [gone.yaml]", &["transformers[0]", "gone.yaml"]),
    ("resources: [map.yaml]\ntransformers: ['{apiVersion: builtin, kind: Dance, metadata: {name: x}}']", &["transformers", "Dance"]),
    ("resources: [map.yaml]\ngenerators: ['{apiVersion: example.com/v1, kind: Mine, metadata: {name: x}}']", &["generators", "need the kustomize program"]),
    ("helmCharts: [{name: x}]", &["helm", "need the kustomize program"]),
    ("resources: ['https://example.invalid/a.yaml']", &["resources[0]", "https://example.invalid/a.yaml"]),
    ("resources: [/map.yaml]", &["resources[0]", "/map.yaml"]),
];

#[test]
fn broken_kustomizations_are_refused_with_file_and_field() {
    assert!(BROKEN.len() >= 40);
    for (text, expected) in BROKEN {
        let files = [
            ("/app/kustomization.yaml", *text),
            ("/app/map.yaml", MAP),
            ("/outside.yaml", MAP),
            ("/kustomization.yaml", "resources: [outside.yaml]\n"),
        ];
        let refused = build(&files).expect_err(text);
        let chain = refused.error.chain();
        assert!(
            chain.starts_with("/app/kustomization.yaml"),
            "{text}\n{chain}"
        );
        for part in *expected {
            assert!(chain.contains(part), "{text}\nno `{part}` in: {chain}");
        }
        assert!(
            !refused.files.is_empty(),
            "{text}: the file is worth watching"
        );
    }
    println!("{0} of {0}", BROKEN.len());
}

/// Files that are broken, and what the error has to say about them.
#[rustfmt::skip]
const BROKEN_FILES: &[(&str, &[&str])] = &[
    ("a: [", &["line"]),
    ("kind: X\n", &["no metadata.name"]),
    ("metadata: {name: x}\n", &["no kind"]),
    ("words", &["no kind"]),
    ("a: 1\n---x\nb: 2\n", &["line 2", "separator"]),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n- x\ny: z\n", &["line 6"]),
    ("{a: &a [*a]}", &["alias"]),
    ("a: *gone\n", &["line 1"]),
    ("kind: ThingList\nitems: {a: b}\n", &["items"]),
];

#[test]
fn broken_files_are_named() {
    for (text, expected) in BROKEN_FILES {
        let files = [
            ("/app/kustomization.yaml", "resources: [broken.yaml]\n"),
            ("/app/broken.yaml", *text),
        ];
        let chain = build(&files).expect_err(text).error.chain();
        let start = "/app/kustomization.yaml: resources[0]: /app/broken.yaml: ";
        assert!(chain.starts_with(start), "{text}\n{chain}");
        for part in *expected {
            assert!(chain.contains(part), "{text}\nno `{part}` in: {chain}");
        }
    }
}

#[test]
fn cycles_through_several_folders_are_found() {
    let files = [
        ("/app/kustomization.yaml", "resources: [../b]\n"),
        ("/b/kustomization.yaml", "resources: [../c]\n"),
        ("/c/kustomization.yaml", "components: [../app]\n"),
    ];
    let chain = build(&files).unwrap_err().error.chain();
    assert!(
        chain.contains("/c/kustomization.yaml: components[0]: cycle"),
        "{chain}"
    );
}

#[test]
fn aliases_that_multiply_are_stopped() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        let list = vec![alias; 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    for (kustomization, file) in [("resources: [bomb.yaml]\n", &*bomb), (&*bomb, "")] {
        let files = [
            ("/app/kustomization.yaml", kustomization),
            ("/app/bomb.yaml", file),
        ];
        let chain = build(&files).unwrap_err().error.chain();
        let place = match file {
            "" => "/app/kustomization.yaml: ",
            _ => "/app/kustomization.yaml: resources[0]: /app/bomb.yaml: ",
        };
        assert!(chain.starts_with(place), "{chain}");
        assert!(chain.contains("aliases expand to more than"), "{chain}");
    }
}

#[test]
fn deep_nesting_is_stopped() {
    for deep in [
        "[".repeat(20_000),
        "{a: ".repeat(20_000),
        "- ".repeat(20_000),
    ] {
        let files = [
            ("/app/kustomization.yaml", "resources: [deep.yaml]\n"),
            ("/app/deep.yaml", &*deep),
        ];
        let chain = build(&files).unwrap_err().error.chain();
        let place = "/app/kustomization.yaml: resources[0]: /app/deep.yaml: ";
        assert!(chain.starts_with(place), "{chain}");
    }
}

/// By name they are inside, and what they lead to is not.
#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app");
    std::fs::create_dir(&app).unwrap();
    std::fs::write(folder.path().join("secret"), "text").unwrap();
    std::os::unix::fs::symlink("../secret", app.join("link")).unwrap();
    for (field, text) in [
        ("resources[0]", "resources: [link]"),
        ("patches[0]", "patches: [{path: link, target: {kind: A}}]"),
        (
            "configMapGenerator[0]",
            "configMapGenerator: [{name: a, files: [link]}]",
        ),
        ("openapi.path", "openapi: {path: link}"),
        ("configurations[0]", "configurations: [link]"),
    ] {
        std::fs::write(app.join("kustomization.yaml"), text).unwrap();
        let chain = Kustomizer::new(&kiln_kustomize::DiskFiles)
            .build(&app.to_string_lossy())
            .expect_err(text)
            .error
            .chain();
        for part in [
            "app/kustomization.yaml: ",
            field,
            "app/link is not in or below",
        ] {
            assert!(chain.contains(part), "{text}\nno `{part}` in: {chain}");
        }
    }
}

#[test]
fn a_file_of_100_megabytes_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("kustomization.yaml"), "resources: [large.yaml]\n").unwrap();
    // Sparse: it takes no room.
    let file = std::fs::File::create(path("large.yaml")).unwrap();
    file.set_len(100 * 1024 * 1024).unwrap();
    let chain = Kustomizer::new(&kiln_kustomize::DiskFiles)
        .build(&folder.path().to_string_lossy())
        .unwrap_err()
        .error
        .chain();
    assert!(chain.contains("resources[0]"), "{chain}");
    assert!(chain.contains("large.yaml"), "{chain}");
    assert!(chain.contains(&LARGEST_FILE.to_string()), "{chain}");
}

/// Whoever waits for a kustomization to be repaired watches these.
#[test]
fn what_is_missing_is_among_the_files_of_a_refusal() {
    let asked = |text: &str, extra: &[(&str, &str)]| {
        let mut files = vec![("/app/kustomization.yaml", text)];
        files.extend(extra);
        let files = build(&files).unwrap_err().files;
        let names = files.iter().map(|path| path.display().to_string());
        names.collect::<Vec<_>>()
    };
    let own = "/app/kustomization.yaml".to_owned();
    let with = |names: &[&str]| {
        let mut all = vec![own.clone()];
        all.extend(names.iter().map(|name| (*name).to_owned()));
        all.sort();
        all
    };
    assert_eq!(asked("resources: [x.yaml]", &[]), with(&["/app/x.yaml"]));
    assert_eq!(asked("resources: [../b]", &[]), with(&["/b"]));
    assert_eq!(asked("components: [../c]", &[]), with(&["/c"]));
    let base = [("/b/other.yaml", "")];
    assert_eq!(
        asked("resources: [../b]", &base),
        with(&[
            "/b/Kustomization",
            "/b/kustomization.yaml",
            "/b/kustomization.yml"
        ])
    );
}
