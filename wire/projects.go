package wire

// Quota limits the appends to a project; 0 means no limit.
type Quota struct {
	RecordsPerSecond uint64 `json:"records_per_second"`
	BytesPerSecond   uint64 `json:"bytes_per_second"` // of payloads
	RecordBytes      uint64 `json:"record_bytes"`     // of one payload
}

// QuotaChange changes the parts of a quota that are not nil.
type QuotaChange struct {
	RecordsPerSecond *uint64 `json:"records_per_second,omitempty"`
	BytesPerSecond   *uint64 `json:"bytes_per_second,omitempty"`
	RecordBytes      *uint64 `json:"record_bytes,omitempty"`
}

// NewProject asks for a project.
type NewProject struct {
	Name   string `json:"name"` // 1 to 128 bytes of UTF-8
	Public bool   `json:"public,omitempty"`
	Quota  *Quota `json:"quota,omitempty"` // nil for no limits
}

// CreatedProject answers a NewProject. No other answer shows the token.
type CreatedProject struct {
	ID      uint32 `json:"id"`
	Name    string `json:"name"`
	Public  bool   `json:"public"`
	Token   string `json:"token"` // may read and append
	TokenID uint32 `json:"token_id"`
}

// Project is a project as any token of the cluster sees it.
type Project struct {
	ID      uint32 `json:"id"`
	Name    string `json:"name"`
	Public  bool   `json:"public"`
	Created uint64 `json:"created"` // unix milliseconds
	Records uint64 `json:"records"` // appended so far
	Quota   Quota  `json:"quota"`
	// since when nothing is appended, unix milliseconds; 0 while the project is open
	Closed uint64 `json:"closed,omitempty"`
}

// Projects is a page of projects, in the order of their ids.
type Projects struct {
	Projects []Project `json:"projects"`
	Next     string    `json:"next,omitempty"` // cursor of the next page, "" at the end
}

// MaxProjectsPage is the limit of projects in a page.
const MaxProjectsPage = 1000

// ProjectChange changes the parts of a project that are not nil. Closed comes alone.
type ProjectChange struct {
	Public *bool        `json:"public,omitempty"`
	Quota  *QuotaChange `json:"quota,omitempty"`
	Closed *bool        `json:"closed,omitempty"` // true: nothing is appended from then on; false: open it again
}

// Rights of a project's token.
const (
	RightRead   = "read"
	RightAppend = "append"
)

// NewToken asks for one more token of a project.
type NewToken struct {
	Label  string   `json:"label,omitempty"`  // at most 64 bytes of UTF-8
	Rights []string `json:"rights,omitempty"` // RightRead, RightAppend or both; empty means both
}

// ProjectToken is a project's token without its secret.
type ProjectToken struct {
	ID      uint32   `json:"id"` // within the project
	Label   string   `json:"label"`
	Rights  []string `json:"rights"`
	Created uint64   `json:"created"` // unix milliseconds
}

// CreatedToken is the only answer that shows the token.
type CreatedToken struct {
	ProjectToken
	Token string `json:"token"`
}

// ProjectTokens are the tokens of a project, in the order of their ids.
type ProjectTokens struct {
	Tokens []ProjectToken `json:"tokens"`
}

// Roles of a caller.
const (
	RoleAdmin    = "admin"    // the token of --admin-token-file, or a named one: may do everything
	RoleOperator = "operator" // a named admin token that runs the cluster
	RoleAuditor  = "auditor"  // a named admin token that only reads
	RoleCluster  = "cluster"
	RoleProject  = "project"
)

// Me describes the caller's token.
type Me struct {
	Role             string   `json:"role"`
	Admin            *Admin   `json:"admin,omitempty"`   // a named admin token
	Project          *Project `json:"project,omitempty"` // where the role is RoleProject
	Rights           []string `json:"rights,omitempty"`  // there
	OpenRegistration bool     `json:"open_registration"` // anyone may create a project
}
