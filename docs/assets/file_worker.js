// Browsers start no worker for a page that is opened as a file. The search's worker then runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.waiting = [];
      window.addEventListener("message", (event) => {
        if (event.source === frame.contentWindow) {
          this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        }
      });
      frame.srcdoc = `<script>window.postMessage = (data) => parent.postMessage(data, "*");</script>
        <script src="${new URL(url, document.baseURI)}"></script>`;
      frame.addEventListener("load", () => {
        this.target = frame.contentWindow;
        this.waiting.forEach((data) => this.postMessage(data));
      });
      document.body.append(frame);
    }

    postMessage(data) {
      if (this.target) {
        this.target.dispatchEvent(new MessageEvent("message", { data }));
      } else {
        this.waiting.push(data);
      }
    }

    terminate() {}
  };
}
