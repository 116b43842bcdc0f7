// Package oidc accepts bearer tokens of one OpenID Connect issuer.
//
// [Issuer] fetches the keys of the issuer in the background, verifies tokens with them, and maps their claims to a role
// and to projects. No request of a user waits for the issuer, with one exception: a token that names an unknown key
// waits a short time while the keys are fetched again. Fetches are limited in rate, in time and in bytes.
//
// The library github.com/coreos/go-oidc reads the issuer's discovery document, and verifies signatures and the issuer
// of a token. This package decides which keys and algorithms count, and checks the other claims. ADR 31 explains the
// decisions.
package oidc
