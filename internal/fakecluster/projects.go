package fakecluster

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// Project is a project with its tokens.
type Project struct {
	wire.Project
	Tokens []wire.CreatedToken // in plain text
	next   uint32              // id of the next token
}

// AddProject adds a project with one token that may read and append. If token is "", the cluster chooses it. The caller
// holds the lock, if any server runs.
func (c *Cluster) AddProject(name string, public bool, token string) *Project {
	p := &Project{Project: wire.Project{ID: uint32(len(c.Projects) + 1), Name: name, Public: public, Created: c.now()}}
	if len(c.Projects) > 0 {
		p.ID = max(firstCreated, c.Projects[len(c.Projects)-1].ID+1)
	}
	c.Projects = append(c.Projects, p)
	c.AddToken(p, "", nil, token)
	return p
}

// AddToken adds a token to a project. If it is "", the cluster chooses it. No rights means all rights.
func (c *Cluster) AddToken(p *Project, label string, rights []string, token string) wire.CreatedToken {
	if len(rights) == 0 {
		rights = []string{wire.RightRead, wire.RightAppend}
	}
	p.next++
	t := wire.CreatedToken{
		ProjectToken: wire.ProjectToken{ID: p.next, Label: label, Rights: rights, Created: c.now()},
		Token:        cmp.Or(token, fmt.Sprintf("NEWTOKEN-%d-%d", p.ID, p.next)),
	}
	p.Tokens = append(p.Tokens, t)
	return t
}

// Project returns a project by name or id, nil for none.
func (c *Cluster) Project(nameOrID string) *Project {
	for _, p := range c.Projects {
		if p.Name == nameOrID || fmt.Sprint(p.ID) == nameOrID {
			return p
		}
	}
	return nil
}

func (c *Cluster) projectRoutes() routes {
	return routes{
		"GET /v1/me":        {anyone, c.me},
		"POST /v1/projects": {public, c.createProject},
		"GET /v1/projects":  {anyone, c.listProjects},
		"GET /v1/projects/{project}": {anyone, c.ofProject(func(w http.ResponseWriter, _ *http.Request, p *Project) {
			reply(w, http.StatusOK, p.Project)
		})},
		"PATCH /v1/projects/{project}":              {admin, c.ofProject(c.changeProject)},
		"GET /v1/projects/{project}/tokens":         {admin, c.ofProject(c.listTokens)},
		"POST /v1/projects/{project}/tokens":        {admin, c.ofProject(c.createToken)},
		"DELETE /v1/projects/{project}/tokens/{id}": {admin, c.ofProject(c.revokeToken)},
		"GET /v1/admins":                            {admin, c.listAdmins},
		"POST /v1/admins":                           {admin, c.createAdmin},
		"DELETE /v1/admins/{id}":                    {admin, c.revokeAdmin},
		"GET /v1/join-tickets":                      {admin, c.listJoinTickets},
		"POST /v1/join-tickets":                     {admin, c.createJoinTicket},
		"DELETE /v1/join-tickets/{id}":              {admin, c.revokeJoinTicket},
		"POST /v1/waiting-workers/{id}/approve":     {admin, c.approveWorker},
		"DELETE /v1/waiting-workers/{id}":           {admin, c.refuseWorker},
	}
}

func (c *Cluster) ofProject(do func(http.ResponseWriter, *http.Request, *Project)) route {
	return func(w http.ResponseWriter, r *http.Request, _ caller) {
		if p := c.Project(r.PathValue("project")); p != nil {
			do(w, r, p)
			return
		}
		Problem(w, wire.ErrNotFound)
	}
}

// caller is the sender of a request; project is nil for an administrator, who has a role.
type caller struct {
	project *Project
	rights  []string
	role    string
}

func (c *Cluster) caller(r *http.Request) (caller, bool) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == AdminToken {
		return caller{role: wire.RoleAdmin}, true
	}
	for _, a := range c.Admins {
		if a.Token == token {
			return caller{role: a.Role}, true
		}
	}
	for _, p := range c.Projects {
		for i := range p.Tokens {
			if p.Tokens[i].Token == token {
				return caller{project: p, rights: p.Tokens[i].Rights}, true
			}
		}
	}
	return caller{}, false
}

func (c *Cluster) me(w http.ResponseWriter, _ *http.Request, by caller) {
	me := wire.Me{Role: by.role, OpenRegistration: true}
	if by.project != nil {
		me.Role, me.Project, me.Rights = wire.RoleProject, &by.project.Project, by.rights
	}
	reply(w, http.StatusOK, me)
}

func (c *Cluster) createProject(w http.ResponseWriter, r *http.Request, by caller) {
	_, known := c.caller(r)
	var n wire.NewProject
	if !c.decode(w, r, &n) {
		return
	}
	switch {
	case c.ClosedRegistration && !known:
		Problem(w, wire.ErrUnauthorized)
		return
	case c.ClosedRegistration && by.project != nil:
		Problem(w, wire.ErrForbidden)
		return
	case n.Name == "":
		Problem(w, wire.ErrBadRequest)
		return
	case slices.ContainsFunc(c.Projects, func(p *Project) bool { return p.Name == n.Name }):
		Problem(w, wire.ErrNameTaken)
		return
	}
	p := c.AddProject(n.Name, n.Public, "")
	if n.Quota != nil {
		p.Quota = *n.Quota
	}
	reply(w, http.StatusCreated, wire.CreatedProject{
		ID: p.ID, Name: p.Name, Public: p.Public, Token: p.Tokens[0].Token, TokenID: p.Tokens[0].ID,
	})
}

func (c *Cluster) listProjects(w http.ResponseWriter, r *http.Request, _ caller) {
	at, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	page := wire.Projects{Projects: []wire.Project{}}
	for _, p := range c.Projects[at:] {
		if c.PageSize > 0 && len(page.Projects) == c.PageSize {
			page.Next = strconv.Itoa(at + c.PageSize)
			break
		}
		page.Projects = append(page.Projects, p.Project)
	}
	reply(w, http.StatusOK, page)
}

func (c *Cluster) changeProject(w http.ResponseWriter, r *http.Request, p *Project) {
	var change wire.ProjectChange
	if !c.decode(w, r, &change) {
		return
	}
	if change.Public != nil {
		p.Public = *change.Public
	}
	if change.Closed != nil {
		p.Closed = 0
		if *change.Closed {
			p.Closed = c.now()
		}
	}
	if q := change.Quota; q != nil {
		for _, part := range []struct{ to, from *uint64 }{
			{&p.Quota.RecordsPerSecond, q.RecordsPerSecond}, {&p.Quota.BytesPerSecond, q.BytesPerSecond},
			{&p.Quota.RecordBytes, q.RecordBytes},
		} {
			if part.from != nil {
				*part.to = *part.from
			}
		}
	}
	reply(w, http.StatusOK, p.Project)
}

func (c *Cluster) listTokens(w http.ResponseWriter, _ *http.Request, p *Project) {
	list := wire.ProjectTokens{Tokens: []wire.ProjectToken{}}
	for i := range p.Tokens {
		list.Tokens = append(list.Tokens, p.Tokens[i].ProjectToken)
	}
	reply(w, http.StatusOK, list)
}

func (c *Cluster) createToken(w http.ResponseWriter, r *http.Request, p *Project) {
	var n wire.NewToken
	if c.decode(w, r, &n) {
		reply(w, http.StatusCreated, c.AddToken(p, n.Label, n.Rights, ""))
	}
}

func (c *Cluster) revokeToken(w http.ResponseWriter, r *http.Request, p *Project) {
	i := slices.IndexFunc(p.Tokens, func(t wire.CreatedToken) bool { return fmt.Sprint(t.ID) == r.PathValue("id") })
	if i < 0 {
		Problem(w, wire.ErrNotFound)
		return
	}
	p.Tokens = slices.Delete(p.Tokens, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

func (c *Cluster) listAdmins(w http.ResponseWriter, _ *http.Request, _ caller) {
	list := wire.Admins{Admins: []wire.Admin{}}
	for i := range c.Admins {
		c.Admins[i].Expired = c.Admins[i].Expires <= c.now()
		list.Admins = append(list.Admins, c.Admins[i].Admin)
	}
	reply(w, http.StatusOK, list)
}

func (c *Cluster) createAdmin(w http.ResponseWriter, r *http.Request, _ caller) {
	var n wire.NewAdmin
	if !c.decode(w, r, &n) {
		return
	}
	seconds := uint64(wire.DefaultAdminSeconds)
	if n.ValidSeconds != nil {
		seconds = *n.ValidSeconds
	}
	switch {
	case n.Name == "" || !slices.Contains(wire.AdminRoles, n.Role) || seconds == 0 || seconds > wire.MaxAdminSeconds:
		Problem(w, wire.ErrBadRequest)
		return
	case slices.ContainsFunc(c.Admins, func(a wire.CreatedAdmin) bool { return a.Name == n.Name }):
		Problem(w, wire.ErrNameTaken)
		return
	}
	c.lastAdmin++
	a := wire.CreatedAdmin{
		Admin: wire.Admin{
			ID: c.lastAdmin, Name: n.Name, Role: n.Role, Created: c.now(), Expires: c.now() + 1000*seconds,
		},
		Token: fmt.Sprintf("NEWADMIN-%d", c.lastAdmin),
	}
	c.Admins = append(c.Admins, a)
	reply(w, http.StatusCreated, a)
}

func (c *Cluster) revokeAdmin(w http.ResponseWriter, r *http.Request, _ caller) {
	i := slices.IndexFunc(c.Admins, func(a wire.CreatedAdmin) bool { return fmt.Sprint(a.ID) == r.PathValue("id") })
	if i < 0 {
		Problem(w, wire.ErrNotFound)
		return
	}
	c.Admins = slices.Delete(c.Admins, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}
