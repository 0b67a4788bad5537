package config

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"proxmox-realm/internal/check"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"proxmox-realm/internal/realm"
)

// targetKeys are the keys that a target may overlay, as they are decoded. A test holds them and runKeys against [Keys].
type targetKeys struct {
	Proxmox struct {
		Endpoints       []string      `mapstructure:"endpoints"`
		Token           check.Secret  `mapstructure:"token"`
		TokenFile       string        `mapstructure:"token_file"`
		TokenCommand    []string      `mapstructure:"token_command"`
		Username        string        `mapstructure:"username"`
		Password        check.Secret  `mapstructure:"password"`
		PasswordFile    string        `mapstructure:"password_file"`
		PasswordCommand []string      `mapstructure:"password_command"`
		OTP             check.Secret  `mapstructure:"otp"`
		CAFile          string        `mapstructure:"ca_file"`
		Fingerprints    []string      `mapstructure:"fingerprints"`
		Insecure        bool          `mapstructure:"insecure"`
		Timeout         time.Duration `mapstructure:"timeout"`
	} `mapstructure:"proxmox"`
	Realm struct {
		Name             string         `mapstructure:"name"`
		Unset            []string       `mapstructure:"unset"`
		ClientKeyFile    string         `mapstructure:"client_key_file"`
		ClientKeyCommand []string       `mapstructure:"client_key_command"`
		Properties       map[string]any `mapstructure:",remain"` // the property table's
	} `mapstructure:"realm"`
	Verify struct {
		RedirectURLs []string      `mapstructure:"redirect_urls"`
		IssuerCAFile string        `mapstructure:"issuer_ca_file"`
		Issuer       bool          `mapstructure:"issuer"`
		Proxmox      Mode          `mapstructure:"proxmox"`
		Client       Mode          `mapstructure:"client"`
		Ignore       []string      `mapstructure:"ignore"`
		MaxClockSkew time.Duration `mapstructure:"max_clock_skew"`
	} `mapstructure:"verify"`
	Policy struct {
		Gate bool `mapstructure:"gate"`
	} `mapstructure:"policy"`
}

// runKeys are the keys of the whole run.
type runKeys struct {
	LockFile    *string `mapstructure:"lock_file"` // nil: the default; "": no lock
	StateDir    string  `mapstructure:"state_dir"`
	Concurrency int     `mapstructure:"concurrency"`
	Agent       struct {
		Interval time.Duration `mapstructure:"interval"`
		Jitter   ratio         `mapstructure:"jitter"`
		Listen   string        `mapstructure:"listen"`
	} `mapstructure:"agent"`
	Notify struct {
		Command []string `mapstructure:"command"`
	} `mapstructure:"notify"`
}

// ratio is a percentage, decoded: 0.1 for 10%.
type ratio float64

// merge merges the layers, lowest first, and decodes those keys that are wanted. Everything was
// checked before, so an error is a mistake of this program; it does not carry the decoder's text, which quotes values.
func merge(pruned []layer, want func(*key) bool, into any) error {
	v := viper.New()
	for _, l := range pruned {
		if err := v.MergeConfigMap(l.nest(want)); err != nil {
			return errors.New("the merged configuration cannot be read")
		}
	}
	err := v.UnmarshalExact(into, func(c *mapstructure.DecoderConfig) {
		c.WeaklyTypedInput = false
		c.DecodeHook = mapstructure.DecodeHookFuncType(durations)
	})
	if err != nil {
		return fmt.Errorf("the merged configuration does not fit %T", into)
	}
	return nil
}

// durations decodes what layers keep as text.
func durations(_, to reflect.Type, data any) (any, error) {
	text, ok := data.(string)
	if !ok {
		return data, nil
	}
	switch to {
	case reflect.TypeFor[time.Duration]():
		return time.ParseDuration(text)
	case reflect.TypeFor[ratio]():
		n, err := share(text)
		return ratio(n), err
	}
	return data, nil
}

// spec turns the decoded keys of `realm` into what a realm should be, without a client key that is yet to be read.
func (t *targetKeys) spec() (realm.Spec, error) {
	s := realm.Spec{Name: t.Realm.Name, Set: realm.Values{}}
	for _, d := range realm.Definitions() {
		value, ok := t.Realm.Properties[d.Key]
		if !ok {
			continue
		}
		delete(t.Realm.Properties, d.Key)
		switch v := value.(type) {
		case string:
			s.Set[d.Property] = realm.Text(v)
		case bool:
			s.Set[d.Property] = realm.Bool(v)
		case []string:
			s.Set[d.Property] = realm.Words(d.Property, v...)
		case check.Secret:
			s.Set[d.Property] = realm.Key(v)
		}
	}
	if len(t.Realm.Properties) > 0 {
		return s, errors.New("the merged configuration holds keys that are no properties")
	}
	for _, name := range t.Realm.Unset {
		s.Unset = append(s.Unset, realm.Property(name))
	}
	return s, nil
}
