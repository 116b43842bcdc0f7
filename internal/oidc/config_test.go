package oidc_test

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/internal/oidc/oidctest"
)

func TestValidate(t *testing.T) {
	const url = "https://login.example"
	for name, c := range map[string]struct {
		change func(*oidc.Options)
		open   bool
		want   string // part of the error, "" for none
	}{
		"good":           {func(*oidc.Options) {}, false, ""},
		"no issuer":      {func(o *oidc.Options) { o.Issuer = "" }, false, "need --oidc-issuer"},
		"nothing":        {func(o *oidc.Options) { *o = oidc.Options{} }, true, ""},
		"only an issuer": {func(o *oidc.Options) { *o = oidc.Options{Issuer: url} }, false, "--oidc-audience"},
		"an audience only": {func(o *oidc.Options) { *o = oidc.Options{Issuer: url, Audiences: []string{"a"}} }, false,
			""},
		"an empty audience": {func(o *oidc.Options) { o.Audiences = []string{""} }, false, "--oidc-audience"},
		"http":              {func(o *oidc.Options) { o.Issuer = "http://login.example" }, false, "https://"},
		"http by loopback":  {func(o *oidc.Options) { o.Issuer = "http://[::1]:5556/dex" }, false, ""},
		"http by a name like loopback": {func(o *oidc.Options) { o.Issuer = "http://127.0.0.1.evil.example" }, false,
			"https://"},
		"a password":      {func(o *oidc.Options) { o.Issuer = "https://a:b@login.example" }, false, "not a URL"},
		"a query":         {func(o *oidc.Options) { o.Issuer = url + "?a" }, false, "no query"},
		"another scheme":  {func(o *oidc.Options) { o.Issuer = "ftp://login.example" }, false, "https://"},
		"roles unclaimed": {func(o *oidc.Options) { o.ClaimRoles = "" }, false, "--oidc-claim-roles"},
		"no roles":        {func(o *oidc.Options) { o.Roles = nil }, false, "--oidc-roles"},
		"chosen by users": {func(o *oidc.Options) { o.ClaimRoles = "preferred_username" }, false, "users may choose"},
		"no projects":     {func(o *oidc.Options) { o.Projects = nil }, false, "--oidc-projects"},
		"an unknown role": {func(o *oidc.Options) { o.Roles = []string{"x=root"} }, false, `no role "root"`},
		"an empty value":  {func(o *oidc.Options) { o.Roles = []string{"=admin"} }, false, "VALUE=ROLE"},
		"no right":        {func(o *oidc.Options) { o.Projects = []string{"x=lab:"} }, false, "no right"},
		"rights left out": {func(o *oidc.Options) { o.Projects = []string{"x=lab"} }, false, "VALUE=PROJECT:RIGHTS"},
		"an unknown right": {func(o *oidc.Options) { o.Projects = []string{"x=lab:read,write"} }, false,
			`no right "write"`},
		"a name with open registration": {func(*oidc.Options) {}, true, "give the id"},
		"an id with open registration": {func(o *oidc.Options) { o.Projects = []string{"x=7:read"} }, true,
			""},
		"a console of another audience": {func(o *oidc.Options) { o.ConsoleClient = "web" }, false, "not an"},
		"a console without ID tokens": {func(o *oidc.Options) {
			o.ConsoleClient, o.ConsoleScopes = oidctest.Audience, []string{"profile"}
		}, false, "openid"},
	} {
		o := options(url)
		c.change(&o)
		err := o.Validate(c.open)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSignIn: the console is told where to sign in, and only if its requests stay at the issuer.
func TestSignIn(t *testing.T) {
	server := oidctest.New(t)
	o := options(server.URL())
	if s, err := start(t, o).SignIn(); err != nil || s.Available {
		t.Errorf("without a client: %+v, %v", s, err)
	}
	o.ConsoleClient, o.ConsoleScopes = oidctest.Audience, oidc.DefaultScopes()
	i := start(t, o)
	if s, err := i.SignIn(); err != nil || !s.Available || s.Token != server.URL()+"/token" ||
		s.Authorization != server.URL()+"/authorize" || s.Client != oidctest.Audience || s.Issuer != server.URL() {
		t.Errorf("got %+v, %v", s, err)
	}
	if got := i.Origin(); got != server.URL() {
		t.Errorf("the origin is %s", got)
	}
	for name, change := range map[string]claims{
		"a script":                  {"authorization_endpoint": "javascript:alert(1)"},
		"tokens without TLS":        {"token_endpoint": "http://login.example/token"},
		"tokens at another origin":  {"token_endpoint": "https://evil.example/token"},
		"no authorization endpoint": {"authorization_endpoint": ""},
	} {
		server := oidctest.New(t)
		server.Document(change)
		o.Issuer = server.URL()
		if s, err := start(t, o).SignIn(); err == nil || s.Available {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestCA(t *testing.T) {
	o := options("https://login.example")
	o.CA = "doc.go"
	if _, err := oidc.New(o, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("got %v", err)
	}
	o.CA = "missing.pem"
	if _, err := oidc.New(o, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "--oidc-ca") {
		t.Errorf("got %v", err)
	}
}
