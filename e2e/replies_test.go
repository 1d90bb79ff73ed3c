package e2e

import (
	"bytes"
	"os"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A replyForm is a form in which the upstream answers, and the reply it makes.
type replyForm struct {
	Name    string    `yaml:"name"`
	Call    string    `yaml:"call"`
	Request yaml.Node `yaml:"request"`
	Data    string    `yaml:"data"`
	Body    string    `yaml:"body"`
	Reply   yaml.Node `yaml:"reply"`
}

// TestReplies lets the upstream answer in every form that is documented or was
// seen, and compares the whole reply, through both doors.
func TestReplies(t *testing.T) {
	text, err := os.ReadFile("testdata/replies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var forms []replyForm
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&forms); err != nil {
		t.Fatal(err)
	}
	asIs := func(s string) (string, error) { return s, nil }
	r := newRig(t)
	for _, form := range forms {
		request, err := jsonOf(&form.Request, asIs)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := jsonOf(&form.Reply, asIs)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range doorNames {
			t.Run(form.Name+"/"+name, func(t *testing.T) {
				if form.Body != "" {
					r.answerBody(form.Body)
				} else {
					r.answerData(form.Data)
				}
				o := r.call(t, name, form.Call, string(request))
				r.one(t)
				if o.status != nil {
					t.Fatalf("failed: %v", o)
				}
				checkReply(t, r, o, string(reply))
			})
		}
	}
}
