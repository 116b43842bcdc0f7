package main

import (
	"net/http"

	"github.com/chainstore/chainstore/wire"
)

// fakeNote is a checkpoint: nobody verifies it here.
const fakeNote = `example.com/fake
12
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/fake 3q2+7wAAAAA=
`

func (f *fakeCluster) handleLog(mux *http.ServeMux) {
	size := uint64(12)
	f.log = wire.Log{Origin: "example.com/fake", Size: &size, Keys: []wire.LogKey{
		{ID: "deadbeef", VerifierKey: "example.com/fake+deadbeef+AQAA", Since: fakeTime},
	}, Quorum: 1, Witnesses: []wire.Witness{
		{Name: "witness.example/w1", VerifierKey: "witness.example/w1+deadbeef+BAAA", URL: "https://witness.example/w1", Size: size, Last: fakeTime, State: wire.WitnessOK},
		{Name: "witness.example/w2", VerifierKey: "witness.example/w2+0badcafe+BAAB", URL: "https://witness.example/w2", State: wire.WitnessDown, Error: "no answer", Failures: 7},
	}}
	open := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			h(w, r)
		}
	}
	mux.HandleFunc("GET /v1/log", open(func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, f.log) }))
	mux.HandleFunc("GET /checkpoint", open(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", wire.TypeNote)
		_, _ = w.Write([]byte(fakeNote))
	}))
	mux.HandleFunc("POST /v1/log/keys", f.admin(func(w http.ResponseWriter, _ *http.Request) {
		k := wire.LogKey{ID: "0badcafe", VerifierKey: "example.com/fake+0badcafe+AQAB", Since: fakeTime}
		f.log.Keys = append(f.log.Keys, k)
		reply(w, http.StatusCreated, k)
	}))
	mux.HandleFunc("DELETE /v1/log/keys/{id}", f.admin(f.retireLogKey))
}

func (f *fakeCluster) retireLogKey(w http.ResponseWriter, r *http.Request) {
	signing := 0
	for i := range f.log.Keys {
		if f.log.Keys[i].Retired == 0 {
			signing++
		}
	}
	for i := range f.log.Keys {
		switch k := &f.log.Keys[i]; {
		case k.ID != r.PathValue("id"):
			continue
		case signing == 1:
			problem(w, http.StatusConflict, wire.ErrLastKey.Name, "The last key")
		default:
			k.Retired = fakeTime + 60_000
			w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "No such key")
}
