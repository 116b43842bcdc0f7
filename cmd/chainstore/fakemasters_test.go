package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"

	"github.com/chainstore/chainstore/wire"
)

func (f *fakeCluster) handleMasters(mux *http.ServeMux) {
	mux.HandleFunc("DELETE /v1/masters/{id}", f.admin(f.removeMaster))
	mux.HandleFunc("POST /v1/leader/transfer", f.admin(f.transferLeadership))
}

// master is the place of a master in the status, -1 where there is none.
func (f *fakeCluster) master(idOrURL string) int {
	return slices.IndexFunc(f.status.Masters, func(m wire.Master) bool { return m.ID == idOrURL || m.URL == idOrURL })
}

// removeMaster lets one go by force alone where fewer than two reachable ones would remain.
func (f *fakeCluster) removeMaster(w http.ResponseWriter, r *http.Request) {
	i := f.master(r.PathValue("id"))
	if i < 0 {
		problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "No such master")
		return
	}
	there := 0
	for j, m := range f.status.Masters {
		if j != i && m.State != "unreachable" {
			there++
		}
	}
	if there < 2 && r.URL.Query().Get("force") != "true" {
		problem(w, http.StatusConflict, wire.ErrTooFewMasters.Name, "Too few masters would remain")
		return
	}
	f.status.Masters = slices.Delete(f.status.Masters, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

// transferLeadership hands over to a follower: the first where none is named.
func (f *fakeCluster) transferLeadership(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	var to wire.Transfer
	if len(body) > 0 {
		if err := json.Unmarshal(body, &to); err != nil {
			f.t.Error(err)
		}
	}
	i := f.master(to.To)
	if to.To == "" {
		i = slices.IndexFunc(f.status.Masters, func(m wire.Master) bool { return m.State == "follower" })
	}
	switch {
	case i < 0:
		problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "No such master")
	case f.status.Masters[i].State == "unreachable":
		problem(w, http.StatusConflict, wire.ErrNotVoter.Name, "Cannot lead")
	default:
		for j := range f.status.Masters {
			if f.status.Masters[j].State == "leader" {
				f.status.Masters[j].State = "follower"
			}
		}
		f.status.Masters[i].State, f.status.Leader = "leader", f.status.Masters[i].ID
		reply(w, http.StatusOK, wire.Transferred{Leader: f.status.Leader})
	}
}
