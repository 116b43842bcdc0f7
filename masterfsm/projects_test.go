package masterfsm

import (
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

func TestCreateProject(t *testing.T) {
	b := newTable(t, smallSettings())
	p := b.ok(&CreateProject{Name: "three", Public: true, TokenHash: chain.Hash{3}, Time: startTime + 4}).(*Project)
	want := Project{
		ID: 3, Name: "three", Public: true, Created: startTime + 4,
		Tokens: []Token{{Hash: chain.Hash{3}, Created: startTime + 4}},
	}
	if !reflect.DeepEqual(*p, want) {
		t.Errorf("%+v, want %+v", *p, want)
	}
	for name, look := range map[string]func(*State) (Project, bool){
		"by id":    func(s *State) (Project, bool) { return s.Project(3) },
		"by token": func(s *State) (Project, bool) { return s.ProjectByToken(chain.Hash{3}) },
		"by name":  func(s *State) (Project, bool) { return s.ProjectByName("three") },
	} {
		for _, s := range []*State{b.State, restored(t, b.State)} {
			if got, ok := look(s); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v", name, got, ok)
			}
		}
	}
	for name, look := range map[string]func() (Project, bool){
		"id 0":         func() (Project, bool) { return b.Project(0) },
		"id 4":         func() (Project, bool) { return b.Project(4) },
		"another hash": func() (Project, bool) { return b.ProjectByToken(chain.Hash{4}) },
		"zero hash":    func() (Project, bool) { return b.ProjectByToken(chain.Hash{}) },
		"another name": func() (Project, bool) { return b.ProjectByName("Three") },
		"no name":      func() (Project, bool) { return b.ProjectByName("") },
	} {
		if got, ok := look(); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCreateProjectRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	for name, c := range map[string]struct {
		command CreateProject
		want    error
	}{
		"no name":       {CreateProject{TokenHash: chain.Hash{5}}, ErrBadCommand},
		"name too long": {CreateProject{Name: strings.Repeat("n", MaxProjectName+1), TokenHash: chain.Hash{5}}, ErrBadCommand},
		"name taken":    {CreateProject{Name: "one", TokenHash: chain.Hash{5}}, ErrNameTaken},
		"token in use":  {CreateProject{Name: "three", TokenHash: chain.Hash{2}}, ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			c.command.Time = startTime + 99
			b.refused(&c.command, c.want)
		})
	}
	b.ok(&CreateProject{Name: strings.Repeat("n", MaxProjectName), TokenHash: chain.Hash{6}, Time: startTime})
}

func TestProjectsAreLimited(t *testing.T) {
	b := newTable(t, smallSettings())
	b.projects = make([]Project, maxProjects)
	if _, err := b.Apply(Encode(&CreateProject{Name: "one more", TokenHash: chain.Hash{9}})); err == nil || len(b.projects) != maxProjects {
		t.Errorf("%v, %d projects", err, len(b.projects))
	}
}
