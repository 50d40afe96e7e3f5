package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// asked is what a mode says of how its registry is run. It is kept with what
// was started by it, so that a plan can compare without asking how it would be
// started.
type asked struct {
	Program     string   `json:"program,omitempty"`
	Binary      string   `json:"binary,omitempty"` // the program's name as the mode has it
	Image       string   `json:"image,omitempty"`
	Args        []string `json:"args,omitempty"`
	Data        string   `json:"data"`
	Address     string   `json:"address"`
	Network     string   `json:"network,omitempty"`
	Certificate string   `json:"certificate,omitempty"`
	Key         string   `json:"key,omitempty"`
	// Build tells the program's file from another one put in its place.
	Build string `json:"build,omitempty"`
}

func (o Options) asked() asked {
	run := o.Registry.Run
	a := asked{Program: run.Binary, Binary: run.Binary, Image: run.Image, Args: run.Args, Data: run.Data, Address: o.listen(), Network: run.Network}
	if t := o.Registry.TLS; t != nil && t.Cert != nil && t.Key != nil {
		a.Certificate, a.Key = *t.Cert, *t.Key
	}
	if run.Driver == schema.DriverProcess {
		if path, err := exec.LookPath(run.Binary); err == nil {
			a.Program = path
		}
		a.Image, a.Network, a.Build = "", "", build(a.Program)
	}
	return a
}

// build is what is seen of a file from outside; "" if it is not there.
func build(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d bytes of %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339))
}

// differences lists in what a registry was started otherwise than is asked now.
func (a asked) differences(now asked) []Difference {
	var d []Difference
	d = differing(d, "image", a.Image, now.Image)
	d = differing(d, "program", a.Program, now.Program)
	if a.Program == now.Program {
		d = beside(differing(nil, "program", a.Build, now.Build), d)
	}
	d = differing(d, "arguments", words(a.Args), words(now.Args))
	d = differing(d, "address", a.Address, now.Address)
	d = differing(d, "network", a.Network, now.Network)
	d = beside(differing(nil, "data", a.Data, now.Data), d)
	d = differing(d, "certificate", a.Certificate, now.Certificate)
	return differing(d, "key", a.Key, now.Key)
}

// beside appends differences of which the mode's own words say nothing.
func beside(found, list []Difference) []Difference {
	for _, d := range found {
		d.Beside = true
		list = append(list, d)
	}
	return list
}
