package proxmox

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// Product returns the product that the configuration declares.
func (c *Client) Product() realm.Product { return c.dialect.product }

// mistaken returns the error of a declared product that is not the one at the endpoint. It returns err if it is, or if that cannot
// be told. Each product refuses the tokens of the others in its own way.
func (c *Client) mistaken(ctx context.Context, endpoint config.Origin, err error) error {
	var e *Error
	if !errors.As(err, &e) || !e.foreign {
		return err
	}
	realms, _ := c.openly(ctx, endpoint)
	there, wrong := c.otherProduct(endpoint, realms)
	if wrong == nil {
		return err
	}
	return wrong.Try(check.Hintf("set {proxmox.product} to %s, with a token of that product", there), checkPort(e, e.dialect.product.Host())).Because(e)
}

// refusals are the bodies of a 401 of Backup Server and Datacenter Manager. One of Proxmox VE is empty, or JSON.
var refusals = []string{"authentication failed", "permission check failed."}

// foreignRefusal tells whether a 401 is not as the declared product sends it.
func (d *dialect) foreignRefusal(res *http.Response, body []byte) bool {
	cleared := slices.ContainsFunc(res.Cookies(), func(c *http.Cookie) bool { return c.Name == clearedCookie })
	return slices.Contains(refusals, strings.TrimSpace(string(body))) != d.plainRefusal || cleared != d.clearsCookie
}

// clearedCookie is the cookie that a 401 of Backup Server clears.
const clearedCookie = "__Host-PBSAuthCookie"

// otherProduct returns the product whose own realms an endpoint has, and the error of it if it is not the declared one. The error is nil
// if it is, and if no product has them.
func (c *Client) otherProduct(endpoint config.Origin, realms []NamedRealm) (there realm.Product, wrong *check.Error) {
	for _, there = range realm.Products() {
		own := func(r NamedRealm) bool { return r.Type == there.String() && there.Builtin(r.Name) }
		if there != c.dialect.product && slices.ContainsFunc(realms, own) {
			return there, check.Errorf(check.Config, "%s is %s, not %s", endpoint, there.Name(), c.dialect.product.Name()).At("proxmox.product")
		}
	}
	return there, nil
}

// NamedRealm is a realm as the login page lists it.
type NamedRealm struct {
	Name string `json:"realm"`
	Type string `json:"type"` // such as openid
}

// openly lists the realms of an endpoint without credentials (GET /access/domains).
func (c *Client) openly(ctx context.Context, endpoint config.Origin) (realms []NamedRealm, err error) {
	err = c.send(ctx, request{method: http.MethodGet, path: domainsPath}, endpoint, nil, &realms)
	for i := range realms {
		realms[i].Name, realms[i].Type = c.cleaner.Clean(realms[i].Name), c.cleaner.Clean(realms[i].Type)
	}
	return realms, err
}

// Reach lists the realms of the first endpoint (GET /access/domains). It sends no credentials, so it shows whether the address is
// that of the declared product, and whether its certificate is trusted. Its errors are those of every request, with
// [check.UnknownCertificate] for a certificate, and [check.Config] for another product.
func Reach(ctx context.Context, p config.Proxmox, o Options) ([]NamedRealm, error) {
	c := newClient(p, o)
	defer c.Close()
	realms, err := c.openly(ctx, p.Endpoints[0])
	if err != nil {
		return nil, err
	}
	if there, wrong := c.otherProduct(p.Endpoints[0], realms); wrong != nil {
		return nil, wrong.Try(check.Hintf("set {proxmox.endpoints} to a node of %s", p.Product.Name()),
			check.Hintf("print the lines that make a token for %s:\n    {bootstrap --product %s}", there.Name(), there))
	}
	return realms, nil
}

// patience waits once in the life of a client, if the product may not have seen a new grant yet. It returns whether the request is
// worth sending again: it was refused for want of a privilege, and a refused request has no effect.
func (c *Client) patience(ctx context.Context, err error) bool {
	var e *Error
	if c.dialect.grantDelay == 0 || !errors.As(err, &e) || e.Kind != PermissionDenied {
		return false
	}
	c.mu.Lock()
	waited := c.patient
	c.patient = true
	c.mu.Unlock()
	if waited {
		return false
	}
	timer := time.NewTimer(c.dialect.grantDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
