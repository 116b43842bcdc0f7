package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/chainstore/chainstore/wire"
)

// fakeProjects are the projects of a fake cluster; those with ids from 7 on are made by the tests.
type fakeProjects struct {
	list   []wire.Project
	tokens map[uint32][]wire.ProjectToken
	next   uint32 // id of a token
}

func (f *fakeCluster) handleProjects(mux *http.ServeMux) {
	f.projects = fakeProjects{
		list:   []wire.Project{{ID: 1, Name: "default", Created: fakeTime, Records: 12}},
		tokens: map[uint32][]wire.ProjectToken{}, next: 1,
	}
	mux.HandleFunc("POST /v1/projects", f.admin(f.createProject))
	mux.HandleFunc("GET /v1/projects", f.any(f.listProjects))
	mux.HandleFunc("GET /v1/projects/{project}", f.any(f.onProject(func(w http.ResponseWriter, _ *http.Request, p *wire.Project) {
		reply(w, http.StatusOK, p)
	})))
	mux.HandleFunc("PATCH /v1/projects/{project}", f.admin(f.onProject(f.changeProject)))
	mux.HandleFunc("GET /v1/projects/{project}/tokens", f.admin(f.onProject(func(w http.ResponseWriter, _ *http.Request, p *wire.Project) {
		reply(w, http.StatusOK, wire.ProjectTokens{Tokens: f.projects.tokens[p.ID]})
	})))
	mux.HandleFunc("POST /v1/projects/{project}/tokens", f.admin(f.onProject(f.createToken)))
	mux.HandleFunc("DELETE /v1/projects/{project}/tokens/{id}", f.admin(f.onProject(f.revokeToken)))
}

// decode reads a body as the API does: without a field that it does not know.
func (f *fakeCluster) decode(r *http.Request, v any) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		f.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func (f *fakeCluster) onProject(h func(http.ResponseWriter, *http.Request, *wire.Project)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := range f.projects.list {
			if p := &f.projects.list[i]; p.Name == r.PathValue("project") || fmt.Sprint(p.ID) == r.PathValue("project") {
				h(w, r, p)
				return
			}
		}
		problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "No such project")
	}
}

func (f *fakeCluster) createProject(w http.ResponseWriter, r *http.Request) {
	var n wire.NewProject
	f.decode(r, &n)
	p := wire.Project{ID: 7, Name: n.Name, Public: n.Public, Created: fakeTime}
	for _, other := range f.projects.list {
		if other.Name == n.Name {
			problem(w, http.StatusConflict, wire.ErrNameTaken.Name, "Name taken")
			return
		}
		p.ID = max(p.ID, other.ID+1)
	}
	if n.Quota != nil {
		p.Quota = *n.Quota
	}
	f.projects.list = append(f.projects.list, p)
	f.projects.tokens[p.ID] = []wire.ProjectToken{{ID: 1, Rights: []string{wire.RightRead, wire.RightAppend}, Created: fakeTime}}
	f.projects.next = 2
	reply(w, http.StatusCreated, wire.CreatedProject{ID: p.ID, Name: p.Name, Public: p.Public, Token: "NEWTOKEN", TokenID: 1})
}

// listProjects gives pages of one project, so that a list takes several.
func (f *fakeCluster) listProjects(w http.ResponseWriter, r *http.Request) {
	at, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	page := wire.Projects{Projects: f.projects.list[at : at+1]}
	if at+1 < len(f.projects.list) {
		page.Next = strconv.Itoa(at + 1)
	}
	reply(w, http.StatusOK, page)
}

func (f *fakeCluster) changeProject(w http.ResponseWriter, r *http.Request, p *wire.Project) {
	var change wire.ProjectChange
	f.decode(r, &change)
	if change.Public != nil {
		p.Public = *change.Public
	}
	if q := change.Quota; q != nil {
		for _, part := range []struct{ to, from *uint64 }{
			{&p.Quota.RecordsPerSecond, q.RecordsPerSecond}, {&p.Quota.BytesPerSecond, q.BytesPerSecond}, {&p.Quota.RecordBytes, q.RecordBytes},
		} {
			if part.from != nil {
				*part.to = *part.from
			}
		}
	}
	reply(w, http.StatusOK, p)
}

func (f *fakeCluster) createToken(w http.ResponseWriter, r *http.Request, p *wire.Project) {
	var n wire.NewToken
	f.decode(r, &n)
	t := wire.ProjectToken{ID: f.projects.next, Label: n.Label, Rights: n.Rights, Created: fakeTime}
	if len(t.Rights) == 0 {
		t.Rights = []string{wire.RightRead, wire.RightAppend}
	}
	f.projects.next++
	f.projects.tokens[p.ID] = append(f.projects.tokens[p.ID], t)
	reply(w, http.StatusCreated, wire.CreatedToken{ProjectToken: t, Token: "NEWTOKEN"})
}

func (f *fakeCluster) revokeToken(w http.ResponseWriter, r *http.Request, p *wire.Project) {
	for i, t := range f.projects.tokens[p.ID] {
		if fmt.Sprint(t.ID) == r.PathValue("id") {
			f.projects.tokens[p.ID] = append(f.projects.tokens[p.ID][:i:i], f.projects.tokens[p.ID][i+1:]...)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "No such token")
}
