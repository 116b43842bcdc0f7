package oidc

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/chainstore/chainstore/wire"
)

// maxSubject bounds a subject, in bytes (OpenID Connect Core 1.0, section 2).
const maxSubject = 255

// identity maps the claims of a verified token.
func (i *Issuer) identity(subject string, expires time.Time, claims map[string]any) (Identity, error) {
	if subject == "" || len(subject) > maxSubject || strings.ContainsFunc(subject, unprintable) {
		return Identity{}, refuse("has no subject of 1 to %d printable characters", maxSubject)
	}
	id := Identity{Issuer: i.options.Issuer, Subject: subject, Name: nameOf(claims), Expires: expires}
	roles, err := values(claims, i.options.ClaimRoles)
	if err != nil {
		return Identity{}, err
	}
	for _, value := range roles {
		id.Role = stronger(id.Role, i.mapping.roles[value])
	}
	projects, err := values(claims, i.options.ClaimProjects)
	if err != nil {
		return Identity{}, err
	}
	rights := map[string][]string{}
	for _, value := range projects {
		for _, g := range i.mapping.projects[value] {
			rights[g.Project] = append(rights[g.Project], g.Rights...)
		}
	}
	for project, names := range rights {
		slices.Sort(names)
		id.Grants = append(id.Grants, wire.Grant{Project: project, Rights: slices.Compact(names)})
	}
	slices.SortFunc(id.Grants, func(a, b wire.Grant) int { return strings.Compare(a.Project, b.Project) })
	if id.Role == "" && len(id.Grants) == 0 {
		return Identity{}, fmt.Errorf("%w: the token of %s is valid, and its claims give it no role and no project: "+
			"see --oidc-roles and --oidc-projects of the masters", wire.ErrForbidden, id)
	}
	return id, nil
}

// String returns the identity as it is shown to people and in logs. Only issuer and subject identify its holder.
func (id Identity) String() string {
	text := id.Issuer + " " + id.Subject
	if id.Name != "" {
		text += fmt.Sprintf(" (%q)", id.Name)
	}
	return text
}

// Short is String in at most n bytes, at least 100: an identity whose text is longer begins with a digest of issuer and
// subject, so that it is still told apart from others.
func (id Identity) Short(n int) string {
	text := id.String()
	if len(text) <= n {
		return text
	}
	sum := sha256.Sum256([]byte(id.Issuer + "\x00" + id.Subject))
	text = "sha256:" + hex.EncodeToString(sum[:]) + " " + text
	end := n
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// nameOf returns the name of a user, "" if there is none that can be shown.
func nameOf(claims map[string]any) string {
	for _, claim := range []string{"preferred_username", "email", "name"} {
		name, _ := claims[claim].(string)
		if name != "" && len(name) <= maxSubject && !strings.ContainsFunc(name, unprintable) {
			return name
		}
	}
	return ""
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }

// values returns the values of a claim: a text, or a list of texts. A name with dots is first that of a claim, and then
// a path, such as realm_access.roles. A claim that is missing or null has no values. The error wraps wire.ErrForbidden
// for a claim of another type.
func values(claims map[string]any, name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	value, ok := claims[name]
	if !ok {
		value = claims
		for part := range strings.SplitSeq(name, ".") {
			object, isObject := value.(map[string]any)
			if !isObject {
				return nil, wrongType(name)
			}
			if value, ok = object[part]; !ok {
				return nil, nil
			}
		}
	}
	if name == "email" && claims["email_verified"] != true {
		return nil, fmt.Errorf("%w: the claim email of the token is not used, since the issuer has not verified it: "+
			"email_verified is not true", wire.ErrForbidden)
	}
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		list := make([]string, len(v))
		for i, element := range v {
			text, isText := element.(string)
			if !isText {
				return nil, wrongType(name)
			}
			list[i] = text
		}
		return list, nil
	}
	return nil, wrongType(name)
}

func wrongType(name string) error {
	return fmt.Errorf("%w: the claim %s of the token is neither a text nor a list of texts", wire.ErrForbidden, name)
}
