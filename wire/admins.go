package wire

// NewAdmin asks for a named admin token.
type NewAdmin struct {
	Name string `json:"name"` // 1 to 64 bytes of UTF-8, as no other admin token has it
	Role string `json:"role"` // RoleAdmin, RoleOperator or RoleAuditor
	// ValidSeconds is how long it is valid, at most MaxAdminSeconds; nil for DefaultAdminSeconds.
	ValidSeconds *uint64 `json:"valid_seconds,omitempty"`
}

// AdminRoles are the roles that a named admin token may have, the most powerful first.
var AdminRoles = []string{RoleAdmin, RoleOperator, RoleAuditor}

// How long an admin token is valid.
const (
	DefaultAdminSeconds = 90 * 24 * 3600
	MaxAdminSeconds     = 10 * 366 * 24 * 3600
)

// Admin is a named admin token without its secret.
type Admin struct {
	ID      uint32 `json:"id"`
	Name    string `json:"name"`
	Role    string `json:"role"`
	Created uint64 `json:"created"` // unix milliseconds
	Expires uint64 `json:"expires"` // unix milliseconds
	Expired bool   `json:"expired"` // by the time of the group
}

// CreatedAdmin is the only answer that shows the token.
type CreatedAdmin struct {
	Admin
	Token string `json:"token"`
}

// Admins are the named admin tokens, in the order of their ids.
type Admins struct {
	Admins []Admin `json:"admins"`
}
