package authelia

import (
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/realm"
)

func TestSameLooksAtTheForm(t *testing.T) {
	const text = "a: &x 'one'\nb: [*x, 2]\n"
	parse := func(text string) *yaml.Node {
		roots, _, err := readYAML([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return roots[0]
	}
	if !same(parse(text), parse(strings.ReplaceAll(text, ": ", ":  "))) {
		t.Error("white space is no difference")
	}
	for what, other := range map[string]string{
		"style":      "a: &x \"one\"\nb: [*x, 2]\n",
		"list style": "a: &x 'one'\nb:\n- *x\n- 2\n",
		"value":      "a: &x 'two'\nb: [*x, 2]\n",
		"tag":        "a: &x 'one'\nb: [*x, '2']\n",
		"anchor":     "a: &y 'one'\nb: [*y, 2]\n",
		"alias":      "a: &x 'one'\nb: ['one', 2]\n",
		"more":       "a: &x 'one'\nb: [*x, 2, 3]\n",
		"order":      "b: [2]\na: &x 'one'\n",
	} {
		if same(parse(text), parse(other)) {
			t.Errorf("%s: %s", what, other)
		}
	}
}

// The proof holds wherever the client is put: what it accepts has the client behind the others and nothing else changed.
func TestProof(t *testing.T) {
	const text = `theme: 'dark'
identity_providers:
  oidc:
    jwks:
      - key: |
          - client_id: 'x'
          # no comment
    clients:
      - client_id: 'grafana'
        client_name: |
          - in text

          - more

        scopes:
          - 'openid'
        # a comment
      - client_id: 'wiki'
        redirect_uris:
        - 'https://wiki.example.com'
        jwks: [{key: '
          - text'}]

    # behind
    cors:
      endpoints: ['token']
`
	o := Options{Client: Client{Login: realm.Login{ClientID: "proxmox", Scopes: []string{"openid"}}, RedirectURIs: []string{"https://pve:8006"}}, Digest: "x"}
	block, err := Block(o)
	if err != nil {
		t.Fatal(err)
	}
	printed, _, err := readYAML(block)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := editable([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	read := func(text []byte) (all map[string]any) {
		if err := yaml.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	var client []any
	if err := yaml.Unmarshal(block, &client); err != nil {
		t.Fatal(err)
	}
	want := read([]byte(text))
	oidc := want["identity_providers"].(map[string]any)["oidc"].(map[string]any)
	oidc["clients"] = append(oidc["clients"].([]any), client...)
	var accepted []int
	for n := range len(layout.lines) + 1 {
		for _, dash := range []int{4, 6, 8} {
			after := []byte(layout.insert(n, indent(string(block), dash, 2)))
			if layout.provesAdded(after, printed[0].Content[0]) != nil {
				continue
			}
			accepted = append(accepted, n)
			if got := read(after); !reflect.DeepEqual(got, want) {
				t.Errorf("at line %d: %s", n, after)
			}
		}
	}
	after, err := layout.add(o)
	if want := layout.insert(22, indent(string(block), 6, 2)); err != nil || string(after) != want || !reflect.DeepEqual(accepted, []int{22, 23, 24}) {
		t.Errorf("accepted %v, %v\n%s", accepted, err, after)
	}
}
