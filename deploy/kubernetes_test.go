package deploy

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/robfig/cron/v3"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// decode reads the documents of a manifest into the API's types. An unknown or duplicate field is an error.
func decode(t *testing.T, path string) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(read(t, path))))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		objects = append(objects, object)
	}
}

// namespaced is what the tests need to know of every object.
type namespaced interface {
	GetName() string
	GetNamespace() string
}

func manifests(t *testing.T, path string) {
	const name = "proxmox-realm"
	objects := decode(t, path)
	if len(objects) == 0 {
		t.Fatal("no document")
	}
	var configuration string
	for _, object := range objects {
		meta := object.(namespaced)
		_, isNamespace := object.(*corev1.Namespace)
		if !strings.HasPrefix(meta.GetName(), name) || !isNamespace && meta.GetNamespace() != name {
			t.Errorf("%T %s: not in the namespace %s, or the name does not begin like it", object, meta.GetName(), name)
		}
		switch o := object.(type) {
		case *corev1.Namespace:
			if o.Labels["pod-security.kubernetes.io/enforce"] != string(api.LevelRestricted) {
				t.Error("the namespace does not enforce restricted pods")
			}
		case *corev1.ServiceAccount:
			if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
				t.Error("the service account hands out its token")
			}
		case *corev1.ConfigMap:
			configuration = o.Data["config.yaml"]
		case *corev1.Secret:
			if o.StringData["token"] == "" || o.StringData["client-key"] == "" {
				t.Error("the secret lacks token or client-key")
			}
		case *networkingv1.NetworkPolicy:
			networkPolicy(t, o)
		case *batchv1.CronJob:
			cronJob(t, o)
		case *appsv1.Deployment:
			pod(t, o.Spec.Template)
		case *corev1.Service, *corev1.PersistentVolumeClaim: // references checks these
		default:
			t.Errorf("%T: no test covers it", object)
		}
	}
	var others []runtime.Object
	switch {
	case strings.Contains(configuration, "targets_from"):
		others = decode(t, "kubernetes/targets.yaml")
		loads(t, configuration, true, others[0].(*corev1.ConfigMap).Data)
	case configuration != "":
		loads(t, configuration, true, nil)
	}
	references(t, append(others, objects...))
}

// networkPolicy checks that the policy opens ports by number or name, and nothing else.
func networkPolicy(t *testing.T, policy *networkingv1.NetworkPolicy) {
	t.Helper()
	if len(policy.Spec.PolicyTypes) != 2 {
		t.Errorf("%s leaves a direction open", policy.Name)
	}
	var ports [][]networkingv1.NetworkPolicyPort
	for _, in := range policy.Spec.Ingress {
		ports = append(ports, in.Ports)
	}
	for _, out := range policy.Spec.Egress {
		ports = append(ports, out.Ports)
	}
	if len(ports) == 0 || slices.ContainsFunc(ports, func(p []networkingv1.NetworkPolicyPort) bool { return len(p) == 0 }) {
		t.Errorf("%s opens no port, or every port", policy.Name)
	}
}

func cronJob(t *testing.T, job *batchv1.CronJob) {
	t.Helper()
	if _, err := cron.ParseStandard(job.Spec.Schedule); err != nil {
		t.Error(err)
	}
	if job.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent {
		t.Error("runs may overlap")
	}
	spec := job.Spec.JobTemplate.Spec
	pod(t, spec.Template)
	container := spec.Template.Spec.Containers[0]
	understood(t, container.Args)
	if spec.CompletionMode != nil && *spec.CompletionMode == batchv1.IndexedCompletion {
		shards := corev1.EnvVar{Name: "PROXMOX_REALM_SHARDS", Value: strconv.Itoa(int(*spec.Completions))}
		if !slices.Contains(container.Env, shards) {
			t.Errorf("%d completions, but not as many shards: %v", *spec.Completions, container.Env)
		}
	}
	for _, rule := range spec.PodFailurePolicy.Rules {
		if codes := rule.OnExitCodes; codes != nil && *codes.ContainerName != container.Name {
			t.Errorf("a rule is about the container %s, which does not exist", *codes.ContainerName)
		}
	}
}

// pod checks that a pod is restricted, and that it mounts its volumes and no others.
func pod(t *testing.T, pod corev1.PodTemplateSpec) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	results := evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec)
	for _, result := range results {
		if !result.Allowed {
			t.Errorf("the pod is not restricted: %s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
		t.Error("the pod gets the service account's token")
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range pod.Spec.Containers {
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s can write its root", c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
			delete(volumes, m.Name)
		}
	}
	for name := range volumes {
		t.Errorf("the volume %s is not mounted", name)
	}
}

// references checks that what the objects of a manifest refer to by name is in the manifests. The secret
// is not.
func references(t *testing.T, objects []runtime.Object) {
	t.Helper()
	names := map[string]bool{"Secret proxmox-realm": true}
	var pods []corev1.PodTemplateSpec
	var selectors []map[string]string
	for _, object := range objects {
		names[object.GetObjectKind().GroupVersionKind().Kind+" "+object.(namespaced).GetName()] = true
		switch o := object.(type) {
		case *batchv1.CronJob:
			pods = append(pods, o.Spec.JobTemplate.Spec.Template)
		case *appsv1.Deployment:
			pods = append(pods, o.Spec.Template)
			selectors = append(selectors, o.Spec.Selector.MatchLabels)
		case *corev1.Service:
			selectors = append(selectors, o.Spec.Selector)
		case *networkingv1.NetworkPolicy:
			selectors = append(selectors, o.Spec.PodSelector.MatchLabels)
		}
	}
	for _, p := range pods {
		wanted := []string{"ServiceAccount " + p.Spec.ServiceAccountName}
		for _, v := range p.Spec.Volumes {
			switch {
			case v.ConfigMap != nil:
				wanted = append(wanted, "ConfigMap "+v.ConfigMap.Name)
			case v.Secret != nil:
				wanted = append(wanted, "Secret "+v.Secret.SecretName)
			case v.PersistentVolumeClaim != nil:
				wanted = append(wanted, "PersistentVolumeClaim "+v.PersistentVolumeClaim.ClaimName)
			case v.Projected != nil:
				for _, s := range v.Projected.Sources {
					wanted = append(wanted, "ConfigMap "+s.ConfigMap.Name)
				}
			}
		}
		for _, w := range wanted {
			if !names[w] {
				t.Errorf("a pod refers to %s, which is not in the manifest", w)
			}
		}
	}
	for _, selector := range selectors {
		if !slices.ContainsFunc(pods, func(p corev1.PodTemplateSpec) bool {
			return labels.SelectorFromSet(selector).Matches(labels.Set(p.Labels))
		}) {
			t.Errorf("no pod has the labels %v", selector)
		}
	}
}

// configMapVolume writes files as the kubelet does: everyone may write to the folder, and each name is a link by way of
// the link ..data, so that all files change at once.
func configMapVolume(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	const version = "..2026_11_26_12_00_00.1"
	if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(os.Chmod(dir, 0o777), os.Symlink(version, filepath.Join(dir, "..data")))
	for name, content := range files {
		err = errors.Join(err,
			os.WriteFile(filepath.Join(dir, version, name), []byte(content), 0o444),
			os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
}
