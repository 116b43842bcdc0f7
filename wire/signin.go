package wire

// SignIn is how the console signs in at the OpenID Connect issuer of the masters. All other fields are empty unless
// Available is true.
type SignIn struct {
	Available     bool     `json:"available"`
	Issuer        string   `json:"issuer,omitempty"`
	Client        string   `json:"client,omitempty"` // id of the console's public client
	Scopes        []string `json:"scopes,omitempty"`
	Authorization string   `json:"authorization_endpoint,omitempty"`
	Token         string   `json:"token_endpoint,omitempty"`
}
