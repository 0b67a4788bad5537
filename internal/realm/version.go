package realm

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Version is a version of one product. The zero value is an unknown version of Proxmox VE. Versions of different products have no
// order, and whether a version has a property is a question to its product.
type Version struct {
	Product             Product
	Major, Minor, Patch int
}

// release is a version within a product: major, minor and patch.
type release [3]int

// ParseVersion reads a version of a product: "9.2.11", "8.4-1", "7.4-3", "9.2", "4.2.3".
func ParseVersion(p Product, text string) (Version, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == '-' || r == '~' || r == '+' })
	var numbers release
	for i, field := range fields[:min(len(fields), len(numbers))] {
		n, err := strconv.ParseUint(field, 10, 16)
		if err != nil && i < 2 {
			return Version{Product: p}, fmt.Errorf("no version: %q", text)
		}
		numbers[i] = int(n)
	}
	if len(fields) < 2 || numbers == (release{}) {
		return Version{Product: p}, fmt.Errorf("no version: %q", text)
	}
	return p.version(numbers), nil
}

// IsZero reports whether the version is unknown.
func (v Version) IsZero() bool { return v.release() == release{} }

// String returns "9.2" or "4.2.3", or "unknown". The last part of a version of Proxmox VE says nothing about realms.
func (v Version) String() string {
	switch {
	case v.IsZero():
		return "unknown"
	case v.Patch == 0 || !v.Product.row().packaged:
		return fmt.Sprintf("%d.%d", v.Major, v.Minor)
	}
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
}

// Named returns the product's name with the version, such as "Proxmox VE 9.2". An unknown version is left out.
func (v Version) Named() string {
	if v.IsZero() {
		return v.Product.Name()
	}
	return v.Product.Name() + " " + v.String()
}

// Less reports whether v is an earlier version of the same product than w.
func (v Version) Less(w Version) bool {
	return v.Product == w.Product && v.release().before(w.release())
}

func (v Version) release() release { return release{v.Major, v.Minor, v.Patch} }

func (r release) before(s release) bool {
	for i := range r {
		if c := cmp.Compare(r[i], s[i]); c != 0 {
			return c < 0
		}
	}
	return false
}

// Lacks reports whether no product of this version knows the property. Of Proxmox VE, any release of the same major version may
// have the package that knows it. There, only the answer to a write is proof.
func (v Version) Lacks(prop Property) bool {
	row := v.Product.row()
	limits, has := row.properties[prop]
	switch _, known := prop.Definition(); {
	case !has:
		return known
	case v.IsZero():
		return false
	case row.packaged:
		return v.release().before(limits.since)
	}
	return v.Major < limits.since[0]
}

// OpenIDLibrary is a generation of the library with which a product verifies ID tokens.
type OpenIDLibrary struct {
	Algorithms []string // of signatures that it verifies with a key of the issuer's key set
	// MinRSA and MaxRSA are the sizes of RSA keys in bits that it takes; 0: any.
	MinRSA, MaxRSA int
}

var rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// The generations: openidconnect-rs 2 over ring, and openidconnect-rs 4 over RustCrypto.
var (
	openidconnect2 = OpenIDLibrary{Algorithms: rsaAlgorithms, MinRSA: 2048, MaxRSA: 8192}
	openidconnect4 = OpenIDLibrary{Algorithms: slices.Concat(rsaAlgorithms, []string{"ES256", "ES384", "EdDSA"}), MaxRSA: 4096}
)

// OpenIDLibraries returns the generations that the version may have, the older first: one if that is known.
func (v Version) OpenIDLibraries() []OpenIDLibrary {
	newer := v.Product.row().openidconnect4
	switch {
	case newer == release{}, !v.IsZero() && !v.release().before(newer):
		return []OpenIDLibrary{openidconnect4}
	case v.IsZero():
		return []OpenIDLibrary{openidconnect2, openidconnect4}
	}
	return []OpenIDLibrary{openidconnect2}
}

// NewOpenIDLibrary returns the first version of a product with the newest generation, for advice to upgrade.
func (p Product) NewOpenIDLibrary() Version { return p.version(p.row().openidconnect4) }
