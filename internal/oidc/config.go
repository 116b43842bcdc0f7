package oidc

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// Options are the settings of the issuer. The zero value accepts no tokens. All masters of a group need the same.
type Options struct {
	Issuer    string   // URL, exactly as in the claim iss; "" for none
	Audiences []string // a token must be for one of them
	CA        string   // file with the authorities of the issuer's certificate (PEM); "" for those of the system

	ClaimRoles    string   // name of the claim with values of Roles
	Roles         []string // VALUE=ROLE
	ClaimProjects string   // name of the claim with values of Projects
	Projects      []string // VALUE=PROJECT:RIGHTS

	ConsoleClient string   // id of the public client with which the console signs in; "" for no sign-in
	ConsoleScopes []string // scopes that the console asks for
}

// DefaultScopes are the scopes that the console asks for without --oidc-console-scopes.
func DefaultScopes() []string { return []string{"openid", "profile", "email"} }

// mapping has the parsed options.
type mapping struct {
	roles    map[string]string // by value of the claim
	projects map[string][]wire.Grant
}

// chosenByUsers lists claims that users may change at many issuers.
var chosenByUsers = []string{
	"preferred_username", "name", "nickname", "given_name", "family_name", "profile", "website", "upn", "unique_name",
}

// Validate returns an error that names the first option that cannot be used. openRegistration reports whether anyone
// may create a project.
func (o *Options) Validate(openRegistration bool) error {
	if o.Issuer == "" {
		if len(o.Audiences)+len(o.Roles)+len(o.Projects) > 0 ||
			o.CA+o.ClaimRoles+o.ClaimProjects+o.ConsoleClient != "" {
			return errors.New("--oidc-audience, --oidc-ca, --oidc-claim-roles, --oidc-roles, --oidc-claim-projects, " +
				"--oidc-projects and --oidc-console-client need --oidc-issuer URL")
		}
		return nil
	}
	if err := checkURL("--oidc-issuer", o.Issuer); err != nil {
		return err
	}
	if strings.ContainsAny(o.Issuer, "?#") {
		return fmt.Errorf("--oidc-issuer %q: the URL of an issuer has no query and no fragment", o.Issuer)
	}
	switch {
	case len(o.Audiences) == 0 || slices.Contains(o.Audiences, ""):
		return errors.New("--oidc-issuer needs --oidc-audience: without it, a token that the issuer made for another " +
			"program would be accepted here")
	case (o.ClaimRoles == "") != (len(o.Roles) == 0):
		return errors.New("--oidc-claim-roles and --oidc-roles need each other: a claim, and the roles of its values")
	case (o.ClaimProjects == "") != (len(o.Projects) == 0):
		return errors.New("--oidc-claim-projects and --oidc-projects need each other: a claim, and the projects of " +
			"its values")
	case o.ConsoleClient != "" && !slices.Contains(o.Audiences, o.ConsoleClient):
		return fmt.Errorf("--oidc-console-client %q is not an --oidc-audience: the tokens of the console would be "+
			"refused", o.ConsoleClient)
	case o.ConsoleClient != "" && !slices.Contains(o.ConsoleScopes, "openid"):
		return errors.New("--oidc-console-scopes lacks openid: the issuer would send no ID token")
	}
	for flag, claim := range map[string]string{
		"--oidc-claim-roles": o.ClaimRoles, "--oidc-claim-projects": o.ClaimProjects,
	} {
		if slices.Contains(chosenByUsers, claim) {
			return fmt.Errorf("%s %s: users may choose that claim at many issuers, so it cannot decide what they may "+
				"do: name one that only the issuer sets, such as groups", flag, claim)
		}
	}
	m, err := o.parse()
	if err != nil || !openRegistration {
		return err
	}
	for _, grants := range m.projects {
		for _, g := range grants {
			if _, err := strconv.ParseUint(g.Project, 10, 32); err != nil {
				return fmt.Errorf("--oidc-projects names the project %q, and with --open-registration anyone could "+
					"create a project of that name: give the id of the project", g.Project)
			}
		}
	}
	return nil
}

// parse reads the mappings.
func (o *Options) parse() (mapping, error) {
	m := mapping{roles: map[string]string{}, projects: map[string][]wire.Grant{}}
	for _, text := range o.Roles {
		value, role, ok := cutLast(text, "=")
		switch {
		case !ok || value == "":
			return m, fmt.Errorf("--oidc-roles %q is not VALUE=ROLE, such as ops=operator", text)
		case !slices.Contains(wire.AdminRoles, role):
			return m, fmt.Errorf("--oidc-roles %q: there is no role %q: name %s", text, role,
				strings.Join(wire.AdminRoles, ", "))
		}
		m.roles[value] = stronger(m.roles[value], role)
	}
	for _, text := range o.Projects {
		value, to, ok := cutLast(text, "=")
		project, rights, both := cutLast(to, ":")
		if !ok || !both || value == "" || project == "" {
			return m, fmt.Errorf("--oidc-projects %q is not VALUE=PROJECT:RIGHTS, such as lab=7:read,append", text)
		}
		g := wire.Grant{Project: project, Rights: strings.Split(rights, ",")}
		for _, right := range g.Rights {
			if right != wire.RightRead && right != wire.RightAppend {
				return m, fmt.Errorf("--oidc-projects %q: there is no right %q: name %s, %s or both", text, right,
					wire.RightRead, wire.RightAppend)
			}
		}
		m.projects[value] = append(m.projects[value], g)
	}
	return m, nil
}

// stronger returns the role that permits more. AdminRoles begins with the strongest; "" is no role.
func stronger(a, b string) string {
	if a == "" || b != "" && slices.Index(wire.AdminRoles, b) < slices.Index(wire.AdminRoles, a) {
		return b
	}
	return a
}

// cutLast is [strings.Cut] at the last separator.
func cutLast(text, separator string) (before, after string, ok bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// checkURL refuses a URL that is neither https nor, on this machine, http.
func checkURL(what, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return fmt.Errorf("%s %q is not a URL such as https://login.example/realms/main", what, text)
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%s %q must begin with https://: its answers decide who is let in (http:// is allowed for a "+
		"loopback address)", what, text)
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// originOf returns the origin of a URL that checkURL has accepted.
func originOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
