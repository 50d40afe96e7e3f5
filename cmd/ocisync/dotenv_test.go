package main

import (
	"strings"
	"testing"
	"time"
)

func TestADotenvFileHoldsWhatAnyReaderTakes(t *testing.T) {
	end := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tt := range map[string]struct {
		robots []robotOutput
		want   string // or a part of the error
	}{
		"none": {nil, "OCISYNC_REGISTRY_URL=https://r.example/\nOCISYNC_REGISTRY_HOST=r.example\n"},
		"two": {
			[]robotOutput{{Name: "ci", Login: "robot$ci"}, {Name: "team-a/ci", Login: "plain", Expires: end}},
			"OCISYNC_REGISTRY_URL=https://r.example/\nOCISYNC_REGISTRY_HOST=r.example\n" +
				"OCISYNC_ROBOT_CI_LOGIN='robot$ci'\nOCISYNC_ROBOT_CI_EXPIRES=\n" +
				"OCISYNC_ROBOT_TEAM_A_CI_LOGIN=plain\nOCISYNC_ROBOT_TEAM_A_CI_EXPIRES=2027-01-02T03:04:05Z\n",
		},
		"of one name": {[]robotOutput{{Name: "a/b", Login: "x"}, {Name: "a-b", Login: "y"}}, `robots "a/b" and "a-b" are both OCISYNC_ROBOT_A_B`},
		"a line":      {[]robotOutput{{Name: "ci", Login: "x\nEVIL=1"}}, "cannot be written"},
		"a quote":     {[]robotOutput{{Name: "ci", Login: "x'"}}, "cannot be written"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			err := (&outputs{Registry: "https://r.example/", Robots: tt.robots}).dotenv(&b)
			if err != nil {
				if b.Len() > 0 || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%q beside the error %v", b.String(), err)
				}
				return
			}
			if b.String() != tt.want {
				t.Errorf("got\n%s\nwant\n%s", b.String(), tt.want)
			}
		})
	}
}
