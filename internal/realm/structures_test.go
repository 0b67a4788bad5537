package realm_test

import (
	"slices"
	"testing"

	"proxmox-realm/internal/realm"
)

// What could not be carried over to a new realm is named, so that a replace can refuse before it deletes anything.
func TestStructures(t *testing.T) {
	current, err := realm.ParseCurrent(realm.VE, []byte(`{"type":"openid","digest":"d","issuer-url":"https://a","odd":["x"],"more":{"a":1},"none":null,"flag":true,"n":3}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := current.Structures; !slices.Equal(got, []string{"more", "odd"}) {
		t.Errorf("%v", got)
	}
}
